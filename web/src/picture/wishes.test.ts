import { expect, test } from "vitest";
import type { StepNumber } from "../state/api.types";
import { batches, type Cell, distance } from "./wishes";

const cell = (run: string, key: string, index = 0): Cell => ({
  name: JSON.stringify([run, key, index]),
  run,
  key,
  index,
});

const asked = (cells: Cell[], wanted: (cell: Cell) => StepNumber[]) =>
  batches(cells, 128, wanted).map((batch) => {
    const query = new URL(batch.url(), "http://x").searchParams;
    return [query.getAll("run"), query.getAll("key"), query.get("steps"), query.get("index")].join(" ");
  });

test("cells that want the same are asked for together", () => {
  const cells = [cell("a", "k"), cell("a", "l"), cell("b", "k"), cell("b", "l")];
  expect(asked(cells, () => [1, "9007199254740993"])).toEqual(["a,b k,l 1,9007199254740993 0"]);
  expect(asked(cells, ({ run }) => (run === "a" ? [1] : [2]))).toEqual(["a k,l 1 0", "b k,l 2 0"]);
  expect(asked(cells, () => [])).toEqual([]);
});

test("all indices of a key are asked for together", () => {
  const many = (key: string, ...indices: number[]) => indices.map((index) => cell("a", key, index));
  const cells = [
    ...many("k", 0, 1, 2, 5, 7, 8),
    cell("a", "l"),
    ...many("m", 8, 7, 5, 2, 1, 0),
    cell("a", "n"),
  ];
  expect(asked(cells, () => [1, 2])).toEqual(["a k,m 1,2 0-2,5,7-8", "a l,n 1,2 0"]);
  // Each index may want other steps.
  expect(asked(many("k", 0, 1, 2), ({ index }) => (index === 1 ? [] : [1]))).toEqual(["a k 1 0,2"]);
});

test("nothing is asked for that no cell wants", () => {
  // A request names all keys of all runs, so an incomplete square is two requests.
  expect(asked([cell("a", "k"), cell("a", "l"), cell("b", "k")], () => [1])).toEqual([
    "a k,l 1 0",
    "b k 1 0",
  ]);
});

test("long requests are split", () => {
  const steps = Array.from({ length: 150 }, (_, step) => step);
  expect(batches([cell("a", "k")], 128, () => steps).map((batch) => batch.steps.length)).toEqual([
    64, 64, 22,
  ]);
  const indices = Array.from({ length: 600 }, (_, index) => cell("a", "k", index));
  const parts = batches(indices, 128, () => [1]);
  expect(parts.map((batch) => batch.cells.length)).toEqual([150, 150, 150, 150]);
  expect(new Set(parts.flatMap((batch) => batch.cells.map(({ index }) => index))).size).toBe(600);
  const cells = Array.from({ length: 40 }, (_, n) => cell("a", `${n}${"x".repeat(1000)}`));
  const split = batches(cells, 128, () => [1]);
  expect(split.every((batch) => batch.url().length <= 6_000)).toBe(true);
  expect(split.flatMap((batch) => batch.cells)).toHaveLength(40);
});

test("a batch knows what has not come", () => {
  const [batch] = batches([cell("a", "k"), cell("a", "l")], 128, () => [1, 2]);
  if (!batch) throw new Error("no batch");
  const name = batch.nameOf({ run: "a", key: "k", index: 0 });
  expect(batch.nameOf({ run: "a", key: "k", index: 1 })).toBeUndefined();
  expect(batch.nameOf({ run: "a", key: "z", index: 0 })).toBeUndefined();
  batch.got(name ?? "", 1);
  expect(batch.missing()).toHaveLength(3);
  expect(batch.has(cell("a", "k"), 1)).toBe(false);
  expect(batch.isWanted(new Map([[name ?? "", new Set([1])]]))).toBe(false);
  expect(batch.isWanted(new Map([[name ?? "", new Set([1, 2])]]))).toBe(true);
});

test("distances hold beyond 2⁵³", () => {
  expect(distance(3, 10)).toBe(7);
  expect(distance("18446744073709551615", "18446744073709551610")).toBe(5);
});
