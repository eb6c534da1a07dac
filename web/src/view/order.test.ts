import { expect, test } from "vitest";
import type { Item } from "../state/api.types";
import { sorted } from "./order";

const item = (index: number, caption: string | null, nan: number | null): Item =>
  ({ index, caption, stats: nan === null ? null : { nan, min: -nan, max: nan } }) as Item;

test("items are sorted, those without a value last", () => {
  const items = [item(0, "b", 2), item(1, null, null), item(2, "a", 5), item(3, "c", 0)];
  expect(sorted(items, "caption")).toEqual([2, 0, 3, 1]);
  expect(sorted(items, "-caption")).toEqual([3, 0, 2, 1]);
  expect(sorted(items, "-nan")).toEqual([2, 0, 3, 1]);
  expect(sorted(items, "min")).toEqual([2, 0, 3, 1]);
  expect(sorted(items, "unknown")).toEqual([0, 1, 2, 3]);
});
