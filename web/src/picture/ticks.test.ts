import { expect, test } from "vitest";
import type { Segment } from "../state/api.types";
import { StepList, StepUnion } from "../state/steps";
import { Axis, density } from "./ticks";

function axisOf(...lists: Segment[][]): [StepUnion, Axis] {
  const union = new StepUnion(lists.map((segments) => new StepList(segments)));
  const axis = Axis.of(union);
  if (!axis) throw new Error("no steps");
  return [union, axis];
}

test("each step is counted once, whatever the width", () => {
  const far: Segment = [9007199254740991, 0, 1, 7, 0, 0];
  for (const more of [[], [far]]) {
    const [union, axis] = axisOf([[3, 7, 100, 2, 0, 0], [1000, 0, 1, 0, 5, 1], ...more] as Segment[], [
      [0, 1, 50, 1, 0, 0],
    ]);
    for (const n of [1, 2, 3, 10, 333, 1000, 5000]) {
      const ticks = density(union, axis, n);
      const sum = (of: "images" | "held" | "rejected") => ticks.reduce((all, one) => all + one[of], 0);
      const images = more.length > 0 ? 257 : 250;
      expect([sum("images"), sum("held"), sum("rejected")], String(n)).toEqual([images, 5, 1]);
    }
  }
  expect(Axis.of(new StepUnion([]))).toBeNull();
});

test("places are linear", () => {
  const [, axis] = axisOf([[0, 10, 11, 1, 0, 0]]);
  expect([0, 25, 50, 100].map((step) => axis.place(step))).toEqual([0, 0.25, 0.5, 1]);
  for (const step of [0, 10, 55, 100]) expect(axis.step(axis.place(step))).toBe(step);
  expect(axis.step(-1)).toBe(0);
  expect(axis.step(2)).toBe(100);
  expect(axis.breaks).toEqual([]);
});

test("one step stands in the middle", () => {
  const [union, axis] = axisOf([[5, 0, 1, 3, 0, 0]]);
  expect(axis.place(5)).toBe(0.5);
  expect(density(union, axis, 4).map(({ images }) => images)).toEqual([0, 0, 3, 0]);
});

test("a far step leaves room for the others", () => {
  const [, axis] = axisOf([
    [0, 100, 12, 1, 0, 0],
    ["9007199254740993", 0, 1, 1, 0, 0],
  ]);
  expect(axis.place(1100)).toBeCloseTo(1 / 1.1, 6);
  expect(axis.place("9007199254740993")).toBe(1);
  expect(axis.breaks).toHaveLength(1);
  expect(axis.step(axis.place(600))).toBe(600);
  expect(axis.step(1)).toBe("9007199254740993");
});

test("two steps alone are no reason to shorten anything", () => {
  const [, axis] = axisOf([
    [0, 0, 1, 1, 0, 0],
    [1000, 0, 1, 1, 0, 0],
  ]);
  expect(axis.breaks).toEqual([]);
  expect(axis.place(500)).toBe(0.5);
});
