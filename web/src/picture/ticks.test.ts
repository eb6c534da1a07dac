import { expect, test } from "vitest";
import { StepList, StepUnion } from "../state/steps";
import { density, placeOf, stepAt } from "./ticks";

test("each step is counted once, whatever the width", () => {
  const union = new StepUnion([
    new StepList([
      [3, 7, 100, 2, 0, 0],
      [1000, 0, 1, 0, 5, 1],
    ]),
    new StepList([[0, 1, 50, 1, 0, 0]]),
  ]);
  for (const n of [1, 2, 3, 10, 333, 1000, 5000]) {
    const ticks = density(union, n);
    const sum = (of: "images" | "held" | "rejected") => ticks.reduce((all, one) => all + one[of], 0);
    expect([sum("images"), sum("held"), sum("rejected")], String(n)).toEqual([250, 5, 1]);
  }
  expect(density(new StepUnion([]), 10)).toEqual([]);
});

test("one step fills the track", () => {
  const union = new StepUnion([new StepList([[5, 0, 1, 3, 0, 0]])]);
  const ticks = density(union, 4);
  expect(ticks.reduce((all, { images }) => all + images, 0)).toBe(3);
  expect(placeOf(5, 5, 5, 100)).toBe(50);
});

test("places and steps are each other's inverse", () => {
  for (const step of [0, 10, 55, 100]) expect(stepAt(placeOf(step, 0, 100, 640), 0, 100, 640)).toBe(step);
  expect(stepAt(-5, 3, 9, 100)).toBe(3);
  expect(stepAt(105, 3, "18446744073709551615", 100)).toBe("18446744073709551615");
});
