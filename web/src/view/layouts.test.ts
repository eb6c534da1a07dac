import { expect, test } from "vitest";
import { StepList } from "../state/steps";
import { columnsOf, itemsSheet, keysSheet, moved, runsSheet, type Sheet, stepsSheet } from "./layouts";

const heights = { heads: 10, side: 80, foot: 20, line: 5 };

/** The rows as text: `#key` a head, `key0` a tile. */
function text(sheet: Sheet): string[] {
  return Array.from({ length: sheet.rows.count }, (_, at) => {
    const row = sheet.row(at);
    if (row.kind === "heads") return row.heads.map(({ key, span }) => `#${key}${span}`).join(" ");
    return row.tiles.map((tile) => (tile ? `${tile.run}${tile.key}${tile.index}` : "-")).join(" ");
  });
}

const group = (key: string, n: number, caption = 0, aspect = 1) => ({
  run: "",
  key,
  n,
  shape: { caption, aspect },
});

test("keys that fit into one row share it", () => {
  const groups = [group("a", 1), group("b", 2), group("c", 1), group("d", 7, 9), group("e", 1)];
  const sheet = keysSheet(groups, 3, heights);
  expect(text(sheet)).toEqual([
    "#a1 #b2",
    "a0 b0 b1",
    "#c1",
    "c0",
    "#d3",
    "d0 d1 d2",
    "d3 d4 d5",
    "d6",
    "#e1",
    "e0",
  ]);
  expect(sheet.rows.total).toBe(4 * 10 + 6 * 100 + 3 * 5);
  expect(sheet.locate('["","d",4]')).toEqual([6, 1]);
  expect(sheet.find('["","d",4]')).toBe(6);
  expect(sheet.find("gone")).toBe(-1);
});

test("rows are as high as their highest picture", () => {
  const sheet = keysSheet([group("a", 1, 0, 0.5), group("b", 1, 100, 0.75)], 3, heights);
  expect(sheet.rows.height(1)).toBe(60 + 20 + 2 * 5);
});

test("runs are columns", () => {
  const has = (run: string, key: string) => !(run === "s" && key === "b");
  const sheet = runsSheet(["r", "s"], [group("a", 1), group("b", 1)], 1, has, heights);
  expect(text(sheet)).toEqual(["#a2", "ra1 sa1", "#b2", "rb1 -"]);
});

test("a contact sheet has a tile for each step", () => {
  const sheet = stepsSheet(
    "r",
    "k",
    0,
    new StepList([[0, 10, 1_000_000, 1, 0, 0]]),
    7,
    { caption: 9, aspect: 1 },
    heights,
  );
  expect(sheet.rows.count).toBe(142_858);
  expect(sheet.rows.total).toBe(142_858 * 105);
  const last = sheet.row(142_857);
  expect(last.kind === "tiles" && last.tiles.map((tile) => tile?.fixed)).toEqual([9_999_990]);
  expect(sheet.locate("15")).toEqual([2, 1]);
  expect(sheet.locate("1000000")).toBeNull();
});

test("a contact sheet may have an order of its own", () => {
  const items = [9, 4, 7].map((fixed) => ({ run: "r", key: "k", index: fixed % 2, fixed }));
  const sheet = itemsSheet(items, 2, { caption: 0, aspect: 1 }, heights);
  expect(text(sheet)).toEqual(["rk1 rk0", "rk1"]);
  expect(sheet.locate("2")).toEqual([1, 0]);
});

test("a selection moves over heads and gaps", () => {
  const sheet = keysSheet([group("a", 1), group("b", 1), group("d", 3), group("e", 1)], 2, heights);
  const to = (from: string | null, by: [number, number]) => moved(sheet, from, by)?.id;
  const id = (key: string, index: number) => JSON.stringify(["", key, index]);
  expect(to(null, [0, 1])).toBe(id("a", 0));
  expect(to(id("a", 0), [0, 1])).toBe(id("b", 0));
  expect(to(id("b", 0), [0, 1])).toBe(id("d", 0));
  expect(to(id("b", 0), [1, 0])).toBe(id("d", 1));
  expect(to(id("d", 1), [1, 0])).toBe(id("d", 2));
  expect(to(id("d", 0), [-1, 0])).toBe(id("a", 0));
  expect(to(id("a", 0), [-1, 0])).toBeUndefined();
  const gaps = runsSheet(
    ["r", "s"],
    [group("a", 1), group("b", 1)],
    0,
    (run, key) => run + key !== "sb",
    heights,
  );
  expect(moved(gaps, JSON.stringify(["s", "a", 0]), [1, 0])?.id).toBe(JSON.stringify(["r", "b", 0]));
});

test("as many columns as there is room for", () => {
  expect(columnsOf(100, 64, 8)).toBe(1);
  expect(columnsOf(136, 64, 8)).toBe(2);
  expect(columnsOf(10, 64, 8)).toBe(1);
});
