import { expect, it } from "vitest";
import {
  areMarksOn,
  autoRangeOf,
  backdropOf,
  isOn,
  marksToggled,
  nextBackdrop,
  toggled,
  withAutoRange,
} from "./panels";

it("turns panels on and off, and leaves a link short where nothing differs", () => {
  expect([isOn([], "loupe"), isOn([], "develop")]).toEqual([true, false]);
  const closed = toggled([], "loupe");
  expect(closed).toEqual(["no-loupe"]);
  expect(isOn(closed, "loupe")).toBe(false);
  expect(toggled(closed, "loupe")).toEqual([]);
  expect(toggled(toggled(["x"], "develop"), "develop")).toEqual(["x"]);
});

it("marks odd pictures unless told otherwise", () => {
  expect([areMarksOn([], true), areMarksOn([], false)]).toEqual([true, false]);
  const off = marksToggled([], true);
  expect(areMarksOn(off, true)).toBe(false);
  const on = marksToggled(off, true);
  expect([areMarksOn(on, true), areMarksOn(on, false)]).toEqual([true, true]);
});

it("goes through the backdrops and back to checks", () => {
  let show: string[] = ["smooth"];
  const seen = [0, 1, 2, 3].map(() => {
    show = nextBackdrop(show);
    return backdropOf(show);
  });
  expect(seen).toEqual(["black", "white", "grey", "checks"]);
  expect(show).toEqual(["smooth"]);
});

it("chooses the range once or for each picture", () => {
  const auto = withAutoRange(withAutoRange([], "extremes"), "percentiles");
  expect(autoRangeOf(auto)).toBe("percentiles");
  expect(withAutoRange(auto, null)).toEqual([]);
});
