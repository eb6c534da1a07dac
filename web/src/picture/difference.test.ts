import { expect, it } from "vitest";
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
  expect(usualRange("signed", 80)).toEqual([-80, 80]);
  expect(usualRange("squared", 3)).toEqual([0, 9]);
});

it("says figures shortly", () => {
  expect([0.00213456, null, 26.7134567, 0].map((value) => figure(value))).toEqual([
    "0.0021346",
    "–",
    "26.713",
    "0",
  ]);
});
