import { expect, test } from "vitest";
import { ago } from "./ago";
import { plural } from "./plural";

test("times are in the largest unit that fits", () => {
  const cases: [number, string][] = [
    [-5, "now"],
    [9.9, "now"],
    [10, "10 seconds ago"],
    [59.9, "59 seconds ago"],
    [60, "1 minute ago"],
    [7199, "1 hour ago"],
    [7200, "2 hours ago"],
    [86_400 * 40, "40 days ago"],
  ];
  for (const [seconds, words] of cases) expect(ago(seconds), String(seconds)).toBe(words);
});

test("one is not many", () => {
  expect([0, 1, 2000].map((n) => plural(n, "image"))).toEqual(["0 images", "1 image", "2,000 images"]);
});
