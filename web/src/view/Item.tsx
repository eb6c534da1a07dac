import { Empty } from "./parts";

export function Item() {
  return <Empty title="Item" />;
}
