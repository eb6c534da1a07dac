import { expect, test } from "vitest";
import { matches, matchesTyped } from "./glob";

test("globs match whole keys", () => {
  const cases: [string, string, boolean][] = [
    ["", "anything", true],
    ["*", "", true],
    ["val/*", "val/a/b", true],
    ["val/*", "train/val/a", false],
    ["*pred*", "val/pred/3", true],
    ["a?c", "abc", true],
    ["a?c", "ac", false],
    ["*a*b*c", "xxaxxbxxc", true],
    ["*a*b*c", "xxaxxbxx", false],
    ["a.c", "abc", false],
    ["[a]", "a", false],
    ["a*", "b", false],
  ];
  for (const [glob, key, want] of cases) expect(matches(glob, key), `${glob} of ${key}`).toBe(want);
});

test("a long key does not take long", () => {
  const begin = performance.now();
  expect(matches("*a*a*a*a*a*a*a*a*b", "a".repeat(1024))).toBe(false);
  expect(performance.now() - begin).toBeLessThan(200);
});

test("a plain word matches a part", () => {
  expect(matchesTyped("pred", "val/pred/3")).toBe(true);
  expect(matchesTyped("pred?", "val/pred/3")).toBe(false);
});
