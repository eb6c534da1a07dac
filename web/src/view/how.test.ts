import { expect, it } from "vitest";
import type { Histogram } from "../state/api.types";
import { howOf, rangeOf } from "./how";

const PLAIN = { low: null, high: null, gamma: 1, map: "", channel: -1, nan: "" };
const channel = { counts: [], nan: 0, positive_inf: 0, negative_inf: 0, below: 0, above: 0, min: -3, max: 7 };
const histogram: Histogram = { low: -3, high: 7, channels: [channel], proof: "digest", percentiles: null };

it("begins with the rule of the stored picture", () => {
  const range = (...given: Parameters<typeof howOf>) => {
    const { low, high } = howOf(...given);
    return [low, high];
  };
  expect(range(null, [0, 80], histogram, true)).toEqual([0, 80]);
  // Without a span, all finite values; without values, the bytes.
  expect(range(null, null, histogram, true)).toEqual([-3, 7]);
  expect(range(null, null, undefined, true)).toEqual([0, 1]);
  expect(range(null, [0, 80], histogram, false)).toEqual([0, 255]);
  expect(range({ ...PLAIN, high: 5 }, [0, 80], histogram, true)).toEqual([0, 5]);
});

it("reads the rest of the link", () => {
  expect(howOf(PLAIN, [0, 1], undefined, true, "turbo").colormap).toBe("turbo");
  expect(howOf({ ...PLAIN, map: "gray" }, [0, 1], undefined, true, "turbo").colormap).toBe("gray");
  expect(howOf(PLAIN, null, undefined, false, "turbo").colormap).toBe(null);
  const how = howOf({ ...PLAIN, gamma: 2, map: "turbo", channel: 1, nan: "ff0080" }, [0, 1], undefined, true);
  expect(how).toEqual({ low: 0, high: 1, gamma: 2, colormap: "turbo", channel: 1, nanColor: [255, 0, 128] });
  expect(howOf(PLAIN, [0, 1], undefined, true)).toMatchObject({
    colormap: null,
    channel: null,
    nanColor: null,
  });
});

it("marks as clipped only what a range clips", () => {
  const how = howOf(null, null, histogram, true);
  expect(rangeOf(null, null, how)).toEqual([Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
  expect(rangeOf({ ...PLAIN, gamma: 2 }, null, how)).toEqual([
    Number.NEGATIVE_INFINITY,
    Number.POSITIVE_INFINITY,
  ]);
  expect(rangeOf(null, [-3, 7], how)).toEqual([-3, 7]);
  expect(rangeOf({ ...PLAIN, low: -3 }, null, how)).toEqual([-3, 7]);
});
