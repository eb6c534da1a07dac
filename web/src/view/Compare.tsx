import { Empty } from "./parts";

export function Compare() {
  return <Empty title="Compare" />;
}
