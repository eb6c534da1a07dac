import { Empty } from "./parts";

export function Grid() {
  return <Empty title="Grid" />;
}
