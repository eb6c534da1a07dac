import { Empty } from "./parts";

export function Runs() {
  return <Empty title="Runs" />;
}
