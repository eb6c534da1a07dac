import { Empty } from "./parts";

export function Search() {
  return <Empty title="Search" />;
}
