import { describe, expect, it } from "vitest";
import { colormap, type Develop, develop, MARKS, markCounts, markPixels, marksOf, nextOdd } from "./develop";
import type { Tensor, Values } from "./npy";

const PLAIN: Develop = { low: 0, high: 1, gamma: 1, colormap: null, channel: null, nanColor: null };

function tensor(values: Values, channels = 1, width = values.length / channels): Tensor {
  const height = values.length / channels / width;
  return { dtype: "float32", height, width, channels, values, exact: null };
}

describe("develop", () => {
  it("maps the range and rounds to the nearest byte", () => {
    const pixels = develop(tensor(new Float32Array([0, 0.5, 1, -1, 2, 0.25])), PLAIN);
    expect([...pixels].filter((_, at) => at % 4 === 0)).toEqual([0, 128, 255, 0, 255, 64]);
    expect([...pixels].filter((_, at) => at % 4 === 3)).toEqual([255, 255, 255, 255, 255, 255]);
  });

  it("shows infinities at the ends, NaN black or in its color", () => {
    const values = new Float32Array([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN]);
    expect([...develop(tensor(values), PLAIN)]).toEqual([255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255]);
    const colored = develop(tensor(values), { ...PLAIN, gamma: 2, nanColor: [255, 0, 128] });
    expect([...colored]).toEqual([255, 255, 255, 255, 0, 0, 0, 255, 255, 0, 128, 255]);
  });

  it("shows NaN as the least value of a colormap", () => {
    const pixels = develop(tensor(new Float32Array([Number.NaN, 0])), { ...PLAIN, colormap: "viridis" });
    expect([...pixels]).toEqual([68, 1, 84, 255, 68, 1, 84, 255]);
  });

  it("applies gamma: 0.25 ^ (1 / 2) is 0.5", () => {
    expect(develop(tensor(new Float32Array([0.25])), { ...PLAIN, gamma: 2 })[0]).toBe(128);
    const withAlpha = develop(tensor(new Float32Array([0.25, 0.25]), 2), { ...PLAIN, gamma: 2 });
    expect([...withAlpha]).toEqual([128, 128, 128, 64]);
  });

  it("keeps alpha, and shows one channel alone", () => {
    expect([...develop(tensor(new Float32Array([1, 0.5]), 2), PLAIN)]).toEqual([255, 255, 255, 128]);
    const rgba = tensor(new Float32Array([1, 0, 0.5, 0]), 4);
    expect([...develop(rgba, PLAIN)]).toEqual([255, 0, 128, 0]);
    expect([...develop(rgba, { ...PLAIN, channel: 2 })]).toEqual([128, 128, 128, 255]);
    expect([...develop(rgba, { ...PLAIN, channel: 0, colormap: "viridis" })]).toEqual([253, 231, 37, 255]);
  });

  it("does not divide by an empty range", () => {
    expect(develop(tensor(new Float32Array([5])), { ...PLAIN, low: 5, high: 5 })[0]).toBe(0);
  });

  it("is fast: a million pixels take 50 ms on a machine that is not busy", () => {
    const values = Float32Array.from({ length: 1 << 20 }, (_, at) => at / (1 << 20));
    const million = tensor(values, 1, 1024);
    // The machine may be busy: the fastest of some runs counts, and it may take four times as long.
    let fastest = Number.POSITIVE_INFINITY;
    for (let run = 0; run < 10 && fastest > 50; run++) {
      const start = performance.now();
      develop(million, { ...PLAIN, gamma: 2.2, colormap: "viridis" });
      fastest = Math.min(fastest, performance.now() - start);
    }
    expect(fastest).toBeLessThan(200);
  });
});

it("has the colors of matplotlib", () => {
  expect([...(colormap("viridis") ?? [])].slice(0, 3)).toEqual([68, 1, 84]);
  expect([...(colormap("viridis") ?? [])].slice(-3)).toEqual([253, 231, 37]);
  expect([...(colormap("gray") ?? [])]).toEqual(Array.from({ length: 768 }, (_, at) => Math.floor(at / 3)));
  expect(colormap("toString")).toBeNull();
});

describe("marks", () => {
  const values = new Float32Array([
    0,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    -1,
    2,
    1,
    0.5,
  ]);

  it("finds what is odd", () => {
    const marks = marksOf(tensor(values, 1, 4), 0, 1);
    const { nan, positiveInf, negativeInf, below, above } = MARKS;
    expect([...marks]).toEqual([0, nan, positiveInf, negativeInf, below, above, 0, 0]);
    expect(markCounts(marks)).toEqual([3, 1, 1, 1, 1, 1]);
    // Of several channels, the oddest.
    expect([...marksOf(tensor(values, 4), 0, 1)]).toEqual([nan, below]);
  });

  it("goes to the next NaN or infinity, and around", () => {
    const marks = marksOf(tensor(values, 1, 4), 0, 1);
    expect([-1, 1, 2, 3].map((from) => nextOdd(marks, from))).toEqual([1, 2, 3, 1]);
    expect(nextOdd(new Uint8Array([0, MARKS.above]), 0)).toBeNull();
  });

  it("draws NaN as checks, and leaves half of a clipped area to the picture", () => {
    const alpha = (mark: number) =>
      [...markPixels(new Uint8Array(16).fill(mark), 4)].filter((byte, at) => at % 4 === 3 && byte === 255)
        .length;
    expect(alpha(MARKS.nan)).toBe(16);
    expect(alpha(MARKS.above)).toBe(8);
    expect([...markPixels(new Uint8Array([MARKS.nan]), 1)]).toEqual([255, 0, 255, 255]);
  });
});
