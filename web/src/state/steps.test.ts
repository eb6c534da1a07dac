import { describe, expect, test } from "vitest";
import type { Segment, StepNumber } from "./api.types";
import { compareSteps, formatStep, parseStep, StepList, StepUnion, stepNear } from "./steps";

const segment = (first: StepNumber, stride: StepNumber, count: number, counts = [1, 0, 0]): Segment => [
  first,
  stride,
  count,
  counts[0] ?? 0,
  counts[1] ?? 0,
  counts[2] ?? 0,
];

/** All steps of segments, listed the long way. */
function listed(segments: Segment[]): bigint[] {
  return segments.flatMap(([first, stride, count]) =>
    Array.from({ length: count }, (_, n) => BigInt(first) + BigInt(stride) * BigInt(n)),
  );
}

const cases: Segment[][] = [
  [],
  [segment(0, 0, 1)],
  [segment(0, 1, 5), segment(10, 10, 4), segment(100, 0, 1)],
  [segment(7, 3, 100), segment(1000, 1, 1), segment(1001, 500, 3)],
  [segment("18446744073709551600", 5, 4)],
  [segment(9007199254740990, 1, 4)],
  [segment(0, "9007199254740993", 3)],
];

describe("a list of steps", () => {
  test.each(cases.map((segments) => ({ segments })))(
    "agrees with the long way: $segments",
    ({ segments }) => {
      const list = new StepList(segments);
      const all = listed(segments);
      expect(list.length).toBe(all.length);
      expect(all.map((_, place) => BigInt(list.at(place) ?? -1))).toEqual(all);
      expect(list.at(all.length)).toBeNull();
      const asked = [0n, 1n, 18446744073709551615n, ...all.flatMap((step) => [step - 1n, step, step + 1n])];
      for (const step of asked.filter((step) => step >= 0n && step <= 18446744073709551615n)) {
        const text = parseStep(step.toString());
        if (text === null) throw new Error(`${step} is no step`);
        const of = (got: StepNumber | null) => (got === null ? undefined : BigInt(got));
        expect(of(list.atMost(text)), `at most ${step}`).toBe(all.filter((other) => other <= step).at(-1));
        expect(of(list.after(text)), `after ${step}`).toBe(all.find((other) => other > step));
        expect(of(list.prior(text)), `before ${step}`).toBe(all.filter((other) => other < step).at(-1));
      }
    },
  );

  test("counts what there is between two steps", () => {
    const list = new StepList([segment(0, 10, 10, [2, 0, 0]), segment(100, 1, 5, [1, 3, 2])]);
    expect(list.counts(0, 99)).toEqual({ images: 20, held: 0, rejected: 0 });
    expect(list.counts(1, 9)).toEqual({ images: 0, held: 0, rejected: 0 });
    expect(list.counts(90, 101)).toEqual({ images: 4, held: 6, rejected: 4 });
    expect(list.counts(104, 5000)).toEqual({ images: 1, held: 3, rejected: 2 });
  });
});

test("a list is extended at its end only", () => {
  const list = new StepList([segment(0, 10, 3)]);
  expect(list.extended(20)).toBe(list);
  expect(list.extended(35).last()).toBe(35);
  expect(list.extended(35).length).toBe(4);
  expect(new StepList([]).extended(7).first()).toBe(7);
});

describe("a union", () => {
  const union = new StepUnion([
    new StepList([segment(0, 100, 11)]),
    new StepList([segment(50, 250, 4)]),
    new StepList([]),
  ]);

  test("steps through what any key has", () => {
    expect(union.first()).toBe(0);
    expect(union.last()).toBe(1000);
    expect(union.next(0)).toBe(50);
    expect(union.next(50)).toBe(100);
    expect(union.previous(100)).toBe(50);
    expect(union.previous(0)).toBeNull();
    expect(union.next(1000)).toBeNull();
    expect(union.move(0, 3)).toBe(200);
    expect(union.move(900, 10)).toBe(1000);
    expect(union.move(60, -10)).toBe(0);
  });

  test("finds the nearest step", () => {
    expect(union.nearest(74)).toBe(50);
    expect(union.nearest(75)).toBe(50);
    expect(union.nearest(76)).toBe(100);
    expect(union.nearest(5000)).toBe(1000);
    expect(new StepUnion([]).nearest(3)).toBeNull();
  });
});

test("steps are read, compared and written exactly", () => {
  expect(parseStep("9007199254740991")).toBe(9007199254740991);
  expect(parseStep("9007199254740992")).toBe("9007199254740992");
  expect(parseStep("00012")).toBe(12);
  expect(parseStep("18446744073709551616")).toBeNull();
  for (const text of ["", "-1", "1.5", "last", "1e3"]) expect(parseStep(text), text).toBeNull();
  expect(compareSteps("9007199254740993", "9007199254740992")).toBeGreaterThan(0);
  expect(compareSteps(9007199254740991, "9007199254740992")).toBeLessThan(0);
  expect(compareSteps("18446744073709551615", "9007199254740992")).toBeGreaterThan(0);
  expect(formatStep("18446744073709551615")).toBe("18,446,744,073,709,551,615");
  expect(formatStep(999)).toBe("999");
  expect(stepNear(12.4)).toBe(12);
  expect(stepNear(-3)).toBe(0);
  expect(stepNear(1e30)).toBe("18446744073709551615");
});
