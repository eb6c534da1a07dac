// Draws a picture, its marks and its numbers on a canvas that is as large as the screen.

import { MARKS } from "./develop";
import { NUMBERS_FROM } from "./loupe";
import type { Backdrop } from "./panels";
import {
  origin,
  PIXELATED_FROM,
  type Point,
  type Rectangle,
  type Size,
  visiblePart,
  type Zoom,
} from "./zoom";

/** A picture, or a part of it. */
export interface PicturePart {
  readonly bitmap: ImageBitmap;
  /** The part of the picture that the bitmap shows, in its pixels. */
  readonly part: Rectangle;
}

/** All that is on a canvas. */
export interface Scene {
  readonly zoom: Zoom;
  /** In device pixels. */
  readonly screen: Size;
  readonly ratio: number;
  readonly size: Size;
  readonly picture: PicturePart | null;
  readonly hasAlpha: boolean;
  readonly backdrop: Backdrop;
  readonly isSmooth: boolean;
  readonly marks: { readonly picture: ImageBitmap; readonly codes: Uint8Array } | null;
  /** The lines that stand in a pixel, if its values are there. */
  readonly numbers: ((x: number, y: number) => string[] | null) | null;
  /** The pixel and the rectangle that the loupe tells of. */
  readonly pixel: Point | null;
  readonly rectangle: Rectangle | null;
}

/** From this many device pixels on, marks are drawn into each pixel. */
const MARKS_IN_PIXELS_FROM = 8;
const NAN_COLORS = ["#ff00ff", "#980098"] as const;

type Context = CanvasRenderingContext2D;

export function paint(context: Context, scene: Scene): void {
  const { screen, zoom, size } = scene;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, screen.width, screen.height);
  const corner = origin(zoom, screen);
  const whole = { x: 0, y: 0, ...size };
  if (scene.hasAlpha) {
    drawBackdrop(context, scene.backdrop, onScreen(whole, corner, zoom), scene.ratio);
  }
  if (scene.picture) {
    sample(context, zoom.scale, scene.isSmooth);
    const { x, y, width, height } = onScreen(scene.picture.part, corner, zoom);
    context.drawImage(scene.picture.bitmap, x, y, width, height);
  }
  if (scene.marks) {
    drawMarks(context, scene, corner, scene.marks);
  }
  if (scene.numbers && zoom.scale / scene.ratio >= NUMBERS_FROM) {
    drawNumbers(context, scene, corner, scene.numbers);
  }
  if (scene.rectangle) {
    outline(context, onScreen(scene.rectangle, corner, zoom), scene.ratio, true);
  }
  if (scene.pixel && zoom.scale >= MARKS_IN_PIXELS_FROM) {
    outline(context, onScreen({ ...scene.pixel, width: 1, height: 1 }, corner, zoom), scene.ratio, false);
  }
}

/** Sets how pixels are enlarged: squares, unless smooth ones were asked for. */
function sample(context: Context, scale: number, isSmooth: boolean): void {
  context.imageSmoothingEnabled = scale !== 1 && (scale < PIXELATED_FROM || isSmooth);
  context.imageSmoothingQuality = "high";
}

function onScreen(part: Rectangle, corner: Point, { scale }: Zoom): Rectangle {
  const [left, top] = [Math.round(corner.x + part.x * scale), Math.round(corner.y + part.y * scale)];
  return {
    x: left,
    y: top,
    width: Math.max(1, Math.round(corner.x + (part.x + part.width) * scale) - left),
    height: Math.max(1, Math.round(corner.y + (part.y + part.height) * scale) - top),
  };
}

/** The same in both themes: what is behind a picture changes how it looks. */
function drawBackdrop(
  context: Context,
  backdrop: Backdrop,
  { x, y, width, height }: Rectangle,
  ratio: number,
): void {
  context.fillStyle = { checks: "#ffffff", black: "#000000", white: "#ffffff", grey: "#808080" }[backdrop];
  context.fillRect(x, y, width, height);
  if (backdrop !== "checks") return;
  const side = Math.round(8 * ratio);
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.fillStyle = "#c8c8c8";
  const [right, bottom] = [
    Math.min(x + width, context.canvas.width),
    Math.min(y + height, context.canvas.height),
  ];
  for (let row = Math.max(0, Math.floor(-y / side)); y + row * side < bottom; row++) {
    const first = Math.max(0, Math.floor(-x / side));
    for (let column = first + ((first + row) & 1); x + column * side < right; column += 2) {
      context.fillRect(x + column * side, y + row * side, side, side);
    }
  }
  context.restore();
}

function drawMarks(context: Context, scene: Scene, corner: Point, marks: NonNullable<Scene["marks"]>): void {
  const { zoom, size, screen } = scene;
  const { x, y, width, height } = onScreen({ x: 0, y: 0, ...size }, corner, zoom);
  if (zoom.scale < MARKS_IN_PIXELS_FROM) {
    context.imageSmoothingEnabled = zoom.scale < 1;
    context.drawImage(marks.picture, x, y, width, height);
    return;
  }
  const seen = visiblePart(zoom, screen, size);
  for (let row = seen.y; row < seen.y + seen.height; row++) {
    for (let column = seen.x; column < seen.x + seen.width; column++) {
      const code = marks.codes[row * size.width + column];
      if (code) {
        drawMark(context, code, onScreen({ x: column, y: row, width: 1, height: 1 }, corner, zoom));
      }
    }
  }
}

function drawMark(context: Context, code: number, { x, y, width, height }: Rectangle): void {
  const side = Math.max(2, Math.round(width / 4));
  if (code === MARKS.nan) {
    for (let top = 0; top < height; top += side) {
      for (let left = 0; left < width; left += side) {
        context.fillStyle = NAN_COLORS[(left / side + top / side) & 1] ?? "";
        context.fillRect(x + left, y + top, Math.min(side, width - left), Math.min(side, height - top));
      }
    }
    return;
  }
  if (code === MARKS.positiveInf || code === MARKS.negativeInf) {
    const isUp = code === MARKS.positiveInf;
    const [tip, base] = isUp
      ? [y + height * 0.12, y + height * 0.88]
      : [y + height * 0.88, y + height * 0.12];
    const neck = (tip + base) / 2;
    context.fillStyle = "#101010";
    context.fillRect(x, y, width, height);
    context.fillStyle = isUp ? "#ffb400" : "#00b4ff";
    context.beginPath();
    for (const [across, down] of [
      [0.5, tip],
      [0.9, neck],
      [0.62, neck],
      [0.62, base],
      [0.38, base],
      [0.38, neck],
      [0.1, neck],
    ] as const) {
      context.lineTo(x + width * across, down);
    }
    context.fill();
    return;
  }
  // Stripes leave half of the pixel to the picture.
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = code === MARKS.above ? "#ff2828" : "#2864ff";
  context.lineWidth = side / 2;
  context.beginPath();
  for (let at = -height; at < width; at += side) {
    context.moveTo(x + at, y + height);
    context.lineTo(x + at + height, y);
  }
  context.stroke();
  context.restore();
}

function drawNumbers(
  context: Context,
  scene: Scene,
  corner: Point,
  numbers: (x: number, y: number) => string[] | null,
): void {
  const { zoom, screen, size, ratio } = scene;
  const seen = visiblePart(zoom, screen, size);
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.strokeStyle = "#000000";
  context.fillStyle = "#ffffff";
  for (let y = seen.y; y < seen.y + seen.height; y++) {
    for (let x = seen.x; x < seen.x + seen.width; x++) {
      const lines = numbers(x, y);
      if (!lines) continue;
      const letters = Math.max(6, ...lines.map((line) => line.length));
      const room = Math.min(
        (zoom.scale * 0.82) / (letters * 0.62),
        (zoom.scale * 0.86) / (lines.length * 1.2),
      );
      const height = Math.floor(Math.min(room, 13 * ratio));
      context.font = `600 ${height}px ui-monospace, Menlo, Consolas, monospace`;
      context.lineWidth = Math.max(2, height / 4);
      const middle = corner.x + (x + 0.5) * zoom.scale;
      lines.forEach((line, at) => {
        const down = corner.y + (y + 0.5) * zoom.scale + (at - (lines.length - 1) / 2) * height * 1.2;
        context.strokeText(line, middle, down);
        context.fillText(line, middle, down);
      });
    }
  }
}

/** A frame in two colors, which is seen on every picture. */
function outline(
  context: Context,
  { x, y, width, height }: Rectangle,
  ratio: number,
  isDashed: boolean,
): void {
  const line = Math.max(1, Math.round(ratio));
  const frame = (color: string, by: number) => {
    context.strokeStyle = color;
    context.strokeRect(x - by, y - by, width + 2 * by, height + 2 * by);
  };
  context.lineWidth = line;
  context.setLineDash([]);
  frame("#000000", isDashed ? line / 2 : line * 1.5);
  context.setLineDash(isDashed ? [4 * ratio, 4 * ratio] : []);
  frame("#ffffff", line / 2);
  context.setLineDash([]);
}
