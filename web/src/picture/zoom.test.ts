import { expect, it } from "vitest";
import {
  fitted,
  linked,
  oneToOne,
  origin,
  panned,
  pixelAt,
  toPicture,
  visiblePart,
  zoomedAbout,
} from "./zoom";

const screen = { width: 800, height: 600 };

it("fits small pictures by whole factors, and large ones exactly", () => {
  expect(fitted({ width: 28, height: 28 }, screen)).toEqual({ scale: 21, x: 14, y: 14 });
  expect(fitted({ width: 28, height: 28 }, screen, false).scale).toBeCloseTo(600 / 28);
  expect(fitted({ width: 1600, height: 1600 }, screen).scale).toBe(0.375);
  expect(fitted({ width: 500, height: 500 }, screen).scale).toBe(1.2);
  expect(fitted({ width: 28, height: 28 }, { width: 0, height: 0 }).scale).toBe(1);
});

it("keeps the place under the pointer while it zooms", () => {
  for (const isPixelated of [true, false]) {
    for (const factor of [1.2, 1 / 1.2, 8, 0.1]) {
      const zoom = { scale: 3, x: 10, y: 20 };
      const at = { x: 123, y: 456 };
      const after = zoomedAbout(zoom, factor, at, screen, isPixelated);
      const [want, got] = [toPicture(zoom, at, screen), toPicture(after, at, screen)];
      expect(got.x).toBeCloseTo(want.x);
      expect(got.y).toBeCloseTo(want.y);
    }
  }
});

it("zooms by whole factors where pixels are sharp, and each step changes something", () => {
  const middle = { x: 400, y: 300 };
  let zoom = { scale: 2, x: 0, y: 0 };
  for (let n = 0; n < 40; n++) {
    const next = zoomedAbout(zoom, 1.1, middle, screen);
    expect(next.scale).toBe(Math.min(256, Math.max(Math.round(zoom.scale * 1.1), zoom.scale + 1)));
    zoom = next;
  }
  for (let n = 0; n < 200; n++) {
    const next = zoomedAbout(zoom, 1 / 1.1, middle, screen);
    expect(next.scale).toBeLessThanOrEqual(zoom.scale);
    zoom = next;
  }
  expect(zoom.scale).toBe(1 / 64);
});

it("shows one pixel of the picture as one of the screen", () => {
  const picture = { width: 1000, height: 500 };
  expect(oneToOne({ scale: 7, x: 3, y: 4 }, picture, screen)).toEqual({ scale: 1, x: 3, y: 250 });
});

it("pans with the pointer, and never loses the picture", () => {
  const zoom = { scale: 2, x: 50, y: 50 };
  const picture = { width: 100, height: 100 };
  expect(panned(zoom, { x: 10, y: -10 }, picture)).toEqual({ scale: 2, x: 45, y: 55 });
  expect(panned(zoom, { x: 1e6, y: -1e6 }, picture)).toEqual({ scale: 2, x: 0, y: 100 });
});

it("finds the pixel under the pointer where it is drawn", () => {
  const picture = { width: 4, height: 4 };
  const zoom = { scale: 100, x: 2, y: 2 };
  expect(origin(zoom, screen)).toEqual({ x: 200, y: 100 });
  expect(pixelAt(zoom, { x: 200, y: 100 }, screen, picture)).toEqual({ x: 0, y: 0 });
  expect(pixelAt(zoom, { x: 599, y: 499 }, screen, picture)).toEqual({ x: 3, y: 3 });
  expect(pixelAt(zoom, { x: 199, y: 100 }, screen, picture)).toBeNull();
  expect(pixelAt(zoom, { x: 600, y: 100 }, screen, picture)).toBeNull();
});

it("names the pixels on the screen", () => {
  const picture = { width: 100, height: 100 };
  expect(visiblePart({ scale: 100, x: 50, y: 50 }, screen, picture)).toEqual({
    x: 46,
    y: 47,
    width: 8,
    height: 6,
  });
  expect(visiblePart({ scale: 1, x: 50, y: 50 }, screen, picture)).toEqual({
    x: 0,
    y: 0,
    width: 100,
    height: 100,
  });
});

it("shows the same part of pictures of other sizes", () => {
  const zoom = { scale: 4, x: 30, y: 40 };
  const small = { width: 100, height: 100 };
  expect(linked(zoom, small, { ...small })).toBe(zoom);
  const large = linked(zoom, small, { width: 200, height: 200 });
  expect(large).toEqual({ scale: 2, x: 60, y: 80 });
  expect(linked(large, { width: 200, height: 200 }, small)).toEqual(zoom);
});
