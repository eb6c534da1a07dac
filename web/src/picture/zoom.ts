// Where a picture is on the screen, and how zooming and panning move it. Pure.
//
// Lengths on the screen are device pixels, so that scale 1 shows each pixel of the picture as one of the screen.

/** Device pixels per pixel of the picture, and the place in the picture that is in the middle of the screen. */
export interface Zoom {
  readonly scale: number;
  readonly x: number;
  readonly y: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

export const SCALE_MIN = 1 / 64;
export const SCALE_MAX = 256;

/** From here on, pixels are squares with sharp edges. */
export const PIXELATED_FROM = 2;

/** Returns the largest zoom that shows all of a picture. Small pictures grow by whole factors. */
export function fitted(picture: Size, screen: Size, isPixelated = true): Zoom {
  const free = Math.min(screen.width / picture.width, screen.height / picture.height);
  const scale = Number.isFinite(free) && free > 0 ? free : 1;
  return { scale: clampedScale(scale, isPixelated, Math.floor), x: picture.width / 2, y: picture.height / 2 };
}

/** Shows one pixel of the picture as one of the screen, with the middle kept. A picture that the screen holds is put
 * into its middle. */
export function oneToOne(zoom: Zoom, picture: Size, screen: Size): Zoom {
  return {
    scale: 1,
    x: picture.width <= screen.width ? picture.width / 2 : zoom.x,
    y: picture.height <= screen.height ? picture.height / 2 : zoom.y,
  };
}

/** Returns the zoom changed by a factor, with the place of the picture under `at` kept there. */
export function zoomedAbout(zoom: Zoom, factor: number, at: Point, screen: Size, isPixelated = true): Zoom {
  const scale = nextScale(zoom.scale, factor, isPixelated);
  const under = toPicture(zoom, at, screen);
  return {
    scale,
    x: under.x - (at.x - screen.width / 2) / scale,
    y: under.y - (at.y - screen.height / 2) / scale,
  };
}

/** Scales that are pixelated are whole, and a step changes them by at least 1. */
function nextScale(scale: number, factor: number, isPixelated: boolean): number {
  const wanted = clampedScale(scale * factor, isPixelated, Math.round);
  if (!isPixelated || wanted !== scale || factor === 1) {
    return wanted;
  }
  return clampedScale(factor > 1 ? scale + 1 : scale - 1, isPixelated, factor > 1 ? Math.ceil : Math.floor);
}

function clampedScale(scale: number, isPixelated: boolean, whole: (scale: number) => number): number {
  const clamped = Math.min(SCALE_MAX, Math.max(SCALE_MIN, scale));
  return isPixelated && clamped >= PIXELATED_FROM ? whole(clamped) : clamped;
}

/** Moves the picture with the pointer. Its middle stays within the screen's reach. */
export function panned(zoom: Zoom, by: Point, picture: Size): Zoom {
  const within = (place: number, side: number) => Math.min(side, Math.max(0, place));
  return {
    scale: zoom.scale,
    x: within(zoom.x - by.x / zoom.scale, picture.width),
    y: within(zoom.y - by.y / zoom.scale, picture.height),
  };
}

/** Moves so that a place of the picture is in the middle. */
export function centredOn(zoom: Zoom, at: Point, scaleMin: number): Zoom {
  return { scale: Math.max(zoom.scale, scaleMin), x: at.x + 0.5, y: at.y + 0.5 };
}

/** Returns the zoom that shows the same part of another picture. */
export function linked(zoom: Zoom, from: Size, to: Size): Zoom {
  const by = to.width / from.width;
  return by === 1 && to.height === from.height
    ? zoom
    : { scale: zoom.scale / by, x: zoom.x * by, y: (zoom.y * to.height) / from.height };
}

/** Returns the place in the picture under a place on the screen. */
export function toPicture(zoom: Zoom, at: Point, screen: Size): Point {
  return {
    x: zoom.x + (at.x - screen.width / 2) / zoom.scale,
    y: zoom.y + (at.y - screen.height / 2) / zoom.scale,
  };
}

/** Returns where the left upper corner of the picture is on the screen. Pixels of the picture begin on whole pixels of
 * the screen, so that edges are sharp. */
export function origin(zoom: Zoom, screen: Size): Point {
  return {
    x: Math.round(screen.width / 2 - zoom.x * zoom.scale),
    y: Math.round(screen.height / 2 - zoom.y * zoom.scale),
  };
}

/** The pixel under a place on the screen, if it is one of the picture. */
export function pixelAt(zoom: Zoom, at: Point, screen: Size, picture: Size): Point | null {
  const corner = origin(zoom, screen);
  const x = Math.floor((at.x - corner.x) / zoom.scale);
  const y = Math.floor((at.y - corner.y) / zoom.scale);
  return x >= 0 && y >= 0 && x < picture.width && y < picture.height ? { x, y } : null;
}

export interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The pixels of the picture that the screen shows. */
export function visiblePart(zoom: Zoom, screen: Size, picture: Size): Rectangle {
  const corner = origin(zoom, screen);
  const part = (start: number, length: number, side: number): [number, number] => {
    const from = Math.max(0, Math.floor(-start / zoom.scale));
    const to = Math.min(side, Math.ceil((length - start) / zoom.scale));
    return [Math.min(from, side), Math.max(0, to - from)];
  };
  const [x, width] = part(corner.x, screen.width, picture.width);
  const [y, height] = part(corner.y, screen.height, picture.height);
  return { x, y, width, height };
}
