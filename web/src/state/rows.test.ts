import { describe, expect, test } from "vitest";
import { equalRows, rowsNear, SCROLL_MAX, ScrollMap, variedRows } from "./rows";

describe("rows", () => {
  test("of one height and of several agree", () => {
    const equal = equalRows(7, 20);
    const varied = variedRows(Array(7).fill(20));
    for (const y of [-5, 0, 19, 20, 139, 140, 9999]) expect(varied.at(y), String(y)).toBe(equal.at(y));
    expect(varied.total).toBe(equal.total);
    expect(varied.top(3)).toBe(equal.top(3));
  });

  test("of several heights are found", () => {
    const rows = variedRows([10, 0, 30, 5]);
    expect([0, 9, 10, 39, 40, 44, 45].map((y) => rows.at(y))).toEqual([0, 0, 2, 2, 3, 3, 3]);
    expect(rows.total).toBe(45);
  });

  test("near the view are few", () => {
    expect(rowsNear(equalRows(1000, 10), 500, 100, 100)).toEqual([40, 71]);
    expect(rowsNear(equalRows(3, 10), 0, 100, 100)).toEqual([0, 3]);
    expect(rowsNear(equalRows(0, 10), 0, 100, 100)).toEqual([0, 0]);
  });
});

describe("a scrolled view", () => {
  test("of few rows is what the element says", () => {
    const map = new ScrollMap(5000, 500);
    map.scrolled(1234);
    expect(map.y).toBe(1234);
    expect(map.place(1300)).toBe(1300);
  });

  test("of many rows moves exactly by small steps, and by shares with the scroll bar", () => {
    const total = 40 * SCROLL_MAX;
    const map = new ScrollMap(total, 500);
    map.scrolled(100);
    map.scrolled(220);
    expect(map.y).toBe(220);
    // A row on the screen stands where it is seen.
    expect(map.place(map.y + 40)).toBe(260);
    map.scrolled((SCROLL_MAX - 500) / 2);
    expect(map.y).toBeCloseTo((total - 500) / 2, 0);
    map.scrolled(SCROLL_MAX - 500);
    expect(map.y).toBe(total - 500);
    map.scrolled(0);
    expect(map.y).toBe(0);
  });

  test("goes where it is told, and keeps its place", () => {
    const map = new ScrollMap(40 * SCROLL_MAX, 500);
    const scrollTop = map.go(123_456_789);
    map.scrolled(scrollTop);
    expect(map.y).toBeCloseTo(123_456_789, 3);
    map.resize(50 * SCROLL_MAX, 400);
    expect(map.y).toBeCloseTo(123_456_789, 3);
    expect(map.go(1e12)).toBe(SCROLL_MAX - 400);
  });
});
