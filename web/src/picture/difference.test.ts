import { expect, it } from "vitest";
import type { Comparison } from "../state/api.types";
import { figure, KINDS, kindOf, otherRate, RATES, usualRange, withKind } from "./difference";

it("keeps the kind in the link", () => {
  for (const kind of KINDS) {
    expect(kindOf(withKind(["loupe", "kind-ssim"], kind))).toBe(kind);
  }
  expect(withKind(["x"], "absolute")).toEqual(["x"]);
});

it("never flickers more than three times a second", () => {
  expect(Math.max(...RATES)).toBe(3);
  expect([otherRate(1, 1), otherRate(3, 1), otherRate(0.5, -1), otherRate(1, -1)]).toEqual([2, 3, 0.5, 0.5]);
});

it("draws signed differences around zero", () => {
  const figures = (max: number) => ({ peak: 255, whole: { max } }) as Comparison;
  expect(usualRange("signed", figures(80))).toEqual([-80, 80]);
  expect(usualRange("squared", figures(3))).toEqual([0, 9]);
  // Of equal pictures, the range that is possible.
  expect(usualRange("absolute", figures(0))).toEqual([0, 255]);
  expect(usualRange("absolute", undefined)).toEqual([0, 1]);
});

it("says figures shortly", () => {
  expect([0.00213456, null, 26.7134567, 0].map((value) => figure(value))).toEqual([
    "0.0021346",
    "–",
    "26.713",
    "0",
  ]);
});
