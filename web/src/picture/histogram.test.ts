import { expect, it } from "vitest";
import type { Histogram } from "../state/api.types";
import { binAt, extent, heights, moved, others, placeOf, valueAt } from "./histogram";

const channel = { nan: 1, positive_inf: 2, negative_inf: 3, below: 4, above: 5, min: -1, max: 9 };
const histogram: Histogram = {
  low: 0,
  high: 10,
  channels: [
    { ...channel, counts: [0, 1, 3] },
    { ...channel, counts: [1, 0, 0], min: null, max: null },
  ],
  proof: null,
  percentiles: null,
};

it("gives all channels one scale", () => {
  expect(heights(histogram, false)).toEqual([
    [0, 1 / 3, 1],
    [1 / 3, 0, 0],
  ]);
  expect(heights(histogram, true)[0]?.[1]).toBeCloseTo(0.5);
  expect(heights({ ...histogram, channels: [{ ...channel, counts: [0, 0] }] }, true)).toEqual([[0, 0]]);
});

it("turns places into values and back", () => {
  expect([placeOf(5, histogram), placeOf(-5, histogram), placeOf(50, histogram)]).toEqual([0.5, 0, 1]);
  expect(valueAt(placeOf(2.5, histogram), histogram)).toBe(2.5);
  expect(placeOf(3, { low: 3, high: 3 })).toBe(0.5);
  expect([binAt(0, 3), binAt(0.5, 3), binAt(1, 3)]).toEqual([0, 1, 2]);
});

it("keeps the low handle below the high one", () => {
  expect(moved([2, 8], 0, 9, histogram)).toEqual([7.99, 8]);
  expect(moved([2, 8], 1, 1, histogram)).toEqual([2, 2.01]);
  expect(moved([2, 8], 0, 3, histogram)).toEqual([3, 8]);
});

it("counts what is in no bar", () => {
  expect(others(histogram)).toEqual({ nan: 2, inf: 10, below: 8, above: 10 });
  expect(extent(histogram)).toEqual([-1, 9]);
});
