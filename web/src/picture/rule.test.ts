import { expect, it } from "vitest";
import type { Develop } from "./develop";
import { hexColor, parseHexColor, ruleOf } from "./rule";

const how: Develop = { low: 0, high: 80, gamma: 1, colormap: null, channel: null, nanColor: null };

it("writes a rule that a configuration takes", () => {
  expect(ruleOf("val/depth", how)).toBe('[[image.rule]]\nkey = "val/depth"\nrange = [0.0, 80.0]\n');
  const all: Develop = {
    low: -1e-9,
    high: 1e21,
    gamma: 2.2,
    colormap: "turbo",
    channel: 1,
    nanColor: [255, 0, 8],
  };
  expect(ruleOf('a"\\\n\u0001', all).split("\n")).toEqual([
    "[[image.rule]]",
    'key = "a\\"\\\\\\n\\u0001"',
    "range = [-1e-9, 1e21]",
    'colormap = "turbo"',
    'nan_color = "#ff0008"',
    "# A rule has no gamma: 2.2 is left out.",
    "# A rule chooses no channel: channel 1 is left out.",
    "",
  ]);
});

it("reads and writes colors", () => {
  expect(parseHexColor("#ff0008")).toEqual([255, 0, 8]);
  expect(parseHexColor("FF0008")).toEqual([255, 0, 8]);
  expect(parseHexColor("red")).toBeNull();
  expect(hexColor([255, 0, 8])).toBe("#ff0008");
});
