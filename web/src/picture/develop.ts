// Makes pixels of values: range, gamma, colormap, channel, and marks. Pure.

import { PACKED_COLORS } from "./colormaps";
import type { Tensor } from "./npy";

/** How values become pixels. */
export interface Develop {
  /** The value that becomes the least byte. */
  readonly low: number;
  /** The value that becomes the greatest byte. */
  readonly high: number;
  /** The exponent is 1 / gamma: above 1 brightens. */
  readonly gamma: number;
  /** The name of a colormap, for one channel. */
  readonly colormap: string | null;
  /** The only channel that is shown. */
  readonly channel: number | null;
  /** The color of NaN: red, green, blue. If null, NaN is as the least value. */
  readonly nanColor: readonly [number, number, number] | null;
}

/** What is odd about a pixel; 0 is nothing. If several are, the least of them. */
export const MARKS = { nan: 1, positiveInf: 2, negativeInf: 3, below: 4, above: 5 } as const;

/** With gamma, values become samples of 16 bits first, as the daemon does it. */
const LEVELS = 65535;
const colors = new Map<string, Uint8Array>();

/** The 256 colors of a map: red, green and blue one after the other. Null if there is no such map. */
export function colormap(name: string): Uint8Array | null {
  const known = colors.get(name);
  const packed = Object.hasOwn(PACKED_COLORS, name) ? PACKED_COLORS[name] : undefined;
  if (known || packed === undefined) {
    return known ?? null;
  }
  const differences = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const table = new Uint8Array(768);
  for (let channel = 0; channel < 3; channel++) {
    let value = 0;
    for (let level = 0; level < 256; level++) {
      value = (value + (differences[channel * 256 + level] ?? 0)) & 255;
      table[level * 3 + channel] = value;
    }
  }
  colors.set(name, table);
  return table;
}

/** Returns red, green, blue and alpha of each pixel. Channels are gray; gray and alpha; RGB; RGBA. */
export function develop(tensor: Tensor, how: Develop): Uint8ClampedArray<ArrayBuffer> {
  const { values, channels } = tensor;
  const pixels = new Uint32Array(tensor.height * tensor.width);
  const curve = bytesOfLevels(how.gamma, how.gamma === 1 ? 255 : LEVELS);
  // Gamma leaves alpha as it is.
  const straight = bytesOfLevels(1, curve.length - 1);
  const { low } = how;
  const top = curve.length - 1;
  const scale = how.high === low ? 0 : top / (how.high - low);
  // How far up the range a value is, in levels. NaN is at the bottom.
  const level = (value: number) => {
    const place = (value - low) * scale + 0.5;
    return place >= top ? top : place > 0 ? place | 0 : 0;
  };
  if (how.channel !== null || channels < 3) {
    const colors = packedColors(how.colormap, curve);
    const nan = how.nanColor ? packedColor(how.nanColor) : (colors[0] as number);
    const hasAlpha = how.channel === null && channels === 2;
    let at = Math.min(how.channel ?? 0, channels - 1);
    for (let pixel = 0; pixel < pixels.length; pixel++, at += channels) {
      const value = values[at] as number;
      const color = Number.isNaN(value) ? nan : (colors[level(value)] as number);
      pixels[pixel] = hasAlpha
        ? (color & 0xffffff) | ((straight[level(values[at + 1] as number)] as number) << 24)
        : color;
    }
    return new Uint8ClampedArray(pixels.buffer);
  }
  const nan = packedColor(how.nanColor ?? [0, 0, 0]);
  for (let pixel = 0, at = 0; pixel < pixels.length; pixel++, at += channels) {
    const [red, green, blue] = [values[at] as number, values[at + 1] as number, values[at + 2] as number];
    if (how.nanColor && (Number.isNaN(red) || Number.isNaN(green) || Number.isNaN(blue))) {
      pixels[pixel] = nan;
      continue;
    }
    const alpha = channels > 3 ? (straight[level(values[at + 3] as number)] as number) : 255;
    pixels[pixel] =
      (curve[level(red)] as number) |
      ((curve[level(green)] as number) << 8) |
      ((curve[level(blue)] as number) << 16) |
      (alpha << 24);
  }
  return new Uint8ClampedArray(pixels.buffer);
}

/** The byte of each level of the range. Without gamma there are as many levels as bytes, so that rounding is exact. */
function bytesOfLevels(gamma: number, top: number): Uint8Array {
  const bytes = new Uint8Array(top + 1);
  for (let level = 0; level <= top; level++) {
    bytes[level] = Math.round((level / top) ** (1 / gamma) * 255);
  }
  return bytes;
}

/** A pixel as it lies in the memory of little-endian machines, which are all that browsers run on. */
function packedColor([red, green, blue]: readonly [number, number, number]): number {
  return (red | (green << 8) | (blue << 16) | (255 << 24)) >>> 0;
}

/** The color of each level. */
function packedColors(name: string | null, curve: Uint8Array): Uint32Array {
  const table = colormap(name ?? "gray") ?? (colormap("gray") as Uint8Array);
  const ofBytes = Uint32Array.from({ length: 256 }, (_, byte) =>
    packedColor([table[byte * 3] ?? 0, table[byte * 3 + 1] ?? 0, table[byte * 3 + 2] ?? 0]),
  );
  const colors = new Uint32Array(curve.length);
  for (let level = 0; level < curve.length; level++) {
    colors[level] = ofBytes[curve[level] as number] as number;
  }
  return colors;
}

/** The marks of each pixel: NaN, infinities, and values outside of the range that is mapped. */
export function marksOf(tensor: Tensor, low: number, high: number): Uint8Array {
  const { values, channels } = tensor;
  const marks = new Uint8Array(tensor.height * tensor.width);
  const mark = (value: number) => {
    if (value >= low && value <= high) {
      return 0;
    }
    if (Number.isNaN(value)) {
      return MARKS.nan;
    }
    if (value > high) {
      return value === Number.POSITIVE_INFINITY ? MARKS.positiveInf : MARKS.above;
    }
    return value === Number.NEGATIVE_INFINITY ? MARKS.negativeInf : MARKS.below;
  };
  for (let pixel = 0, at = 0; pixel < marks.length; pixel++) {
    for (let channel = 0; channel < channels; channel++, at++) {
      const found = mark(values[at] as number);
      const known = marks[pixel] as number;
      if (found && (!known || found < known)) {
        marks[pixel] = found;
      }
    }
  }
  return marks;
}

/** The number of pixels with each mark, by its number. */
export function markCounts(marks: Uint8Array): number[] {
  const counts = [0, 0, 0, 0, 0, 0];
  for (const mark of marks) {
    counts[mark] = (counts[mark] ?? 0) + 1;
  }
  return counts;
}

/** The next pixel after `from` that is NaN or infinite, row by row and then from the start. */
export function nextOdd(marks: Uint8Array, from: number): number | null {
  for (let step = 1; step <= marks.length; step++) {
    const at = (from + step) % marks.length;
    const mark = marks[at] as number;
    if (mark > 0 && mark <= MARKS.negativeInf) {
      return at;
    }
  }
  return null;
}

const MARK_COLORS: Readonly<Record<number, readonly [number, number]>> = {
  // Each mark has two colors, so that it is seen on every picture. As in memory: alpha, blue, green, red.
  [MARKS.nan]: [0xffff00ff, 0xff980098],
  [MARKS.positiveInf]: [0xff00b4ff, 0xff007cb0],
  [MARKS.negativeInf]: [0xffffb400, 0xffb07c00],
  [MARKS.below]: [0xffff6428, 0],
  [MARKS.above]: [0xff2828ff, 0],
};

/** A picture of marks for zooms at which a pixel is too small to draw in: NaN and infinities as checks, clipped values
 * as stripes with the picture between them. */
export function markPixels(marks: Uint8Array, width: number): Uint8ClampedArray<ArrayBuffer> {
  const pixels = new Uint32Array(marks.length);
  for (let at = 0; at < marks.length; at++) {
    const mark = marks[at] as number;
    if (mark) {
      const [x, y] = [at % width, Math.floor(at / width)];
      const isOdd = mark <= MARKS.negativeInf ? (x + y) & 1 : (x + y) % 4 >= 2;
      const [first, second] = MARK_COLORS[mark] ?? [0, 0];
      pixels[at] = isOdd ? second : first;
    }
  }
  return new Uint8ClampedArray(pixels.buffer);
}
