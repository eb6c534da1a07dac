import { expect, test } from "vitest";
import { fitted } from "./fit";

test("small images are enlarged by whole factors", () => {
  expect(fitted({ width: 28, height: 28 }, { width: 160, height: 160 }, true)).toEqual({
    x: 10,
    y: 10,
    width: 140,
    height: 140,
    isSharp: true,
  });
  expect(fitted({ width: 28, height: 14 }, { width: 160, height: 160 }, true)).toEqual({
    x: 10,
    y: 45,
    width: 140,
    height: 70,
    isSharp: true,
  });
  expect(fitted({ width: 100, height: 100 }, { width: 160, height: 160 }, true)).toEqual({
    x: 30,
    y: 30,
    width: 100,
    height: 100,
    isSharp: true,
  });
  expect(fitted({ width: 1, height: 1 }, { width: 160, height: 160 }, true)).toEqual({
    x: 0,
    y: 0,
    width: 160,
    height: 160,
    isSharp: true,
  });
});

test("large images fit, and are smooth", () => {
  expect(fitted({ width: 512, height: 256 }, { width: 160, height: 160 }, true)).toEqual({
    x: 0,
    y: 40,
    width: 160,
    height: 80,
    isSharp: false,
  });
  expect(fitted({ width: 4000, height: 2 }, { width: 160, height: 160 }, true)).toEqual({
    x: 0,
    y: 79,
    width: 160,
    height: 1,
    isSharp: false,
  });
});

test("a thumbnail stands for its image, at the image's size", () => {
  expect(fitted({ width: 300, height: 300 }, { width: 512, height: 512 }, false)).toEqual({
    x: 106,
    y: 106,
    width: 300,
    height: 300,
    isSharp: false,
  });
});

test("a place may be low", () => {
  expect(fitted({ width: 512, height: 256 }, { width: 160, height: 80 }, true)).toMatchObject({
    width: 160,
    height: 80,
  });
  expect(fitted({ width: 28, height: 14 }, { width: 160, height: 80 }, true)).toMatchObject({
    width: 140,
    height: 70,
  });
});
