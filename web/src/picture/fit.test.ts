import { expect, test } from "vitest";
import { fitted } from "./fit";

test("small images are enlarged by whole factors", () => {
  expect(fitted(28, 28, 160, true)).toEqual({ x: 10, y: 10, width: 140, height: 140, isSharp: true });
  expect(fitted(28, 14, 160, true)).toEqual({ x: 10, y: 45, width: 140, height: 70, isSharp: true });
  expect(fitted(100, 100, 160, true)).toEqual({ x: 30, y: 30, width: 100, height: 100, isSharp: true });
  expect(fitted(1, 1, 160, true)).toEqual({ x: 0, y: 0, width: 160, height: 160, isSharp: true });
});

test("large images fit, and are smooth", () => {
  expect(fitted(512, 256, 160, true)).toEqual({ x: 0, y: 40, width: 160, height: 80, isSharp: false });
  expect(fitted(4000, 2, 160, true)).toEqual({ x: 0, y: 79, width: 160, height: 1, isSharp: false });
});

test("a thumbnail stands for its image, at the image's size", () => {
  expect(fitted(300, 300, 512, false)).toEqual({ x: 106, y: 106, width: 300, height: 300, isSharp: false });
});
