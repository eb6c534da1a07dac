// What the loupe prints: values as NumPy prints them, and the statistics of a rectangle. Pure.

import type { Tensor } from "./npy";
import type { Rectangle } from "./zoom";

/** From this many CSS pixels on, numbers stand in the pixels. */
export const NUMBERS_FROM = 48;

/** Returns a value of the tensor with the fewest digits that only this value of its type has. */
export function printed(tensor: Tensor, x: number, y: number, channel: number): string {
  const at = (y * tensor.width + x) * tensor.channels + channel;
  const value = tensor.values[at];
  if (value === undefined) {
    return "";
  }
  if (tensor.exact) {
    return String(tensor.exact[at]);
  }
  switch (tensor.dtype) {
    case "bool":
      return value ? "True" : "False";
    case "float16":
      return shortest(value, halfOf, 5);
    case "float32":
      return shortest(value, Math.fround, 9);
    default:
      return named(value) ?? String(value);
  }
}

/** NumPy's words for numbers that have no digits. */
function named(value: number): string | null {
  if (Number.isNaN(value)) {
    return "nan";
  }
  if (!Number.isFinite(value)) {
    return value > 0 ? "inf" : "-inf";
  }
  return Object.is(value, -0) ? "-0" : null;
}

function shortest(value: number, rounded: (value: number) => number, digitsMax: number): string {
  const name = named(value);
  if (name !== null) {
    return name;
  }
  const exact = value
    .toPrecision(100)
    .replace(/e.*|\D/g, "")
    .replace(/^0+/, "");
  for (let digits = 1; ; digits++) {
    // Of two texts that are equally near, NumPy takes the even one, `toPrecision` the larger one.
    const isBetween = /^50*$/.test(exact.slice(digits));
    const isEven = Number(exact[digits - 1]) % 2 === 0;
    const text = (isBetween && isEven ? value * (1 - 2 ** -40) : value).toPrecision(digits);
    if (digits === digitsMax || rounded(Number(text)) === value) {
      return String(Number(text));
    }
  }
}

/** Returns the float16 that is nearest to a number. */
export function halfOf(value: number): number {
  const size = Math.abs(value);
  if (!Number.isFinite(value) || size === 0) {
    return value;
  }
  // The last of 10 bits after the first one; below 2⁻¹⁴ all numbers have the same distance.
  const unit = 2 ** (Math.max(-14, Math.floor(Math.log2(size))) - 10);
  const quotient = size / unit;
  const floor = Math.floor(quotient);
  const rest = quotient - floor;
  const isUp = rest > 0.5 || (rest === 0.5 && floor % 2 === 1);
  const rounded = (floor + (isUp ? 1 : 0)) * unit;
  return Math.sign(value) * (rounded > 65504 ? Number.POSITIVE_INFINITY : rounded);
}

/** Returns a number in few characters, for a pixel of the screen or an axis. */
export function brief(value: number, digits = 3): string {
  const name = named(value);
  if (name !== null) {
    return name;
  }
  if (Number.isInteger(value) && Math.abs(value) < 1e5) {
    return String(value);
  }
  const text = String(Number(value.toPrecision(digits)));
  return text.includes("e") ? text.replace("e+", "e") : text.replace(/^(-?)0\./, "$1.");
}

/** A number as people read it: up to six digits. */
export function readable(value: number): string {
  return named(value) ?? String(Number(value.toPrecision(6)));
}

/** A byte in decimal and hexadecimal; or two bytes. */
export function byteText(byte: number, digits = 2): string {
  return `${byte} 0x${byte.toString(16).padStart(digits, "0").toUpperCase()}`;
}

/** The names of the channels of an image. */
export function channelNames(channels: number): string[] {
  const names = [["gray"], ["gray", "alpha"], ["R", "G", "B"], ["R", "G", "B", "A"]][channels - 1];
  return names ?? Array.from({ length: channels }, (_, channel) => `channel ${channel}`);
}

/** The statistics of one channel in a rectangle. */
export interface Statistics {
  readonly min: number | null;
  readonly max: number | null;
  readonly mean: number | null;
  readonly nan: number;
  readonly inf: number;
}

/** Returns the statistics of each channel in a rectangle of the picture. */
export function statistics(tensor: Tensor, part: Rectangle): Statistics[] {
  return Array.from({ length: tensor.channels }, (_, channel) => {
    let [min, max, sum, n, nan, inf] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0, 0, 0];
    for (let y = part.y; y < Math.min(part.y + part.height, tensor.height); y++) {
      for (let x = part.x; x < Math.min(part.x + part.width, tensor.width); x++) {
        const value = tensor.values[(y * tensor.width + x) * tensor.channels + channel] as number;
        if (Number.isNaN(value)) {
          nan++;
        } else if (!Number.isFinite(value)) {
          inf++;
        } else {
          [min, max, sum, n] = [Math.min(min, value), Math.max(max, value), sum + value, n + 1];
        }
      }
    }
    const ofFinite = (value: number) => (n > 0 ? value : null);
    return { min: ofFinite(min), max: ofFinite(max), mean: ofFinite(sum / n), nan, inf };
  });
}

/** Returns the rectangle between two pixels, both included. */
export function between(a: { x: number; y: number }, b: { x: number; y: number }): Rectangle {
  const [x, y] = [Math.min(a.x, b.x), Math.min(a.y, b.y)];
  return { x, y, width: Math.abs(a.x - b.x) + 1, height: Math.abs(a.y - b.y) + 1 };
}
