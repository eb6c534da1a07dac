// Reads the samples of a PNG file as they are stored. Pure.
//
// A browser's own decoder would convert them: it applies gamma, color profiles and alpha, and keeps 8 bits.

import type { Mask } from "./overlay";

const PIXELS_MAX = 1 << 26;

/** The samples of each pixel side by side, row by row. */
export interface Samples {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly values: Uint8Array | Uint16Array;
}

/** The channels of each color type. Indexed pixels have one: the index. */
const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

/** Returns the class ids of a mask's file. Null if it is no PNG file with one channel, or interlaced. */
export async function readMask(file: ArrayBuffer): Promise<Mask | null> {
  const samples = await readPng(file);
  if (samples?.channels !== 1) return null;
  return { width: samples.width, height: samples.height, ids: samples.values };
}

/** Returns the samples of a PNG file without interlacing. Null for any other file. */
export async function readPng(file: ArrayBuffer): Promise<Samples | null> {
  const view = new DataView(file);
  if (view.byteLength < 33 || view.getUint32(0) !== 0x89504e47 || view.getUint32(12) !== 0x49484452) {
    return null;
  }
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const [bits, colorType, interlacing] = [view.getUint8(24), view.getUint8(25), view.getUint8(28)];
  const channels = CHANNELS[colorType];
  if (channels === undefined || interlacing !== 0 || width * height > PIXELS_MAX) {
    return null;
  }
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 8; at + 12 <= view.byteLength; ) {
    const length = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x49444154) {
      parts.push(new Uint8Array(file, at + 8, Math.min(length, view.byteLength - at - 8)));
    }
    at += 12 + length;
  }
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const filtered = new Uint8Array(await new Response(stream).arrayBuffer());
  const rowBytes = Math.ceil((width * channels * bits) / 8);
  if (filtered.length < height * (rowBytes + 1)) {
    return null;
  }
  const rows = unfiltered(filtered, height, rowBytes, Math.max(1, (channels * bits) / 8));
  return { width, height, channels, values: unpacked(rows, width * channels, height, rowBytes, bits) };
}

function unfiltered(filtered: Uint8Array, height: number, rowBytes: number, distance: number): Uint8Array {
  const rows = new Uint8Array(height * rowBytes);
  for (let y = 0; y < height; y++) {
    const filter = filtered[y * (rowBytes + 1)] as number;
    const [from, to] = [y * (rowBytes + 1) + 1, y * rowBytes];
    for (let x = 0; x < rowBytes; x++) {
      const left = x >= distance ? (rows[to + x - distance] as number) : 0;
      const above = y > 0 ? (rows[to + x - rowBytes] as number) : 0;
      const corner = x >= distance && y > 0 ? (rows[to + x - rowBytes - distance] as number) : 0;
      const guess = guessed(filter, left, above, corner);
      rows[to + x] = (filtered[from + x] as number) + guess;
    }
  }
  return rows;
}

/** The filters of PNG: none, sub, up, average, Paeth. */
function guessed(filter: number, left: number, above: number, corner: number): number {
  switch (filter) {
    case 1:
      return left;
    case 2:
      return above;
    case 3:
      return (left + above) >> 1;
    case 4: {
      const byLeft = Math.abs(above - corner);
      const byAbove = Math.abs(left - corner);
      const byCorner = Math.abs(left + above - 2 * corner);
      if (byLeft <= byAbove && byLeft <= byCorner) {
        return left;
      }
      return byAbove <= byCorner ? above : corner;
    }
    default:
      return 0;
  }
}

function unpacked(
  rows: Uint8Array,
  width: number,
  height: number,
  rowBytes: number,
  bits: number,
): Uint8Array | Uint16Array {
  if (bits === 8) {
    return rows;
  }
  const ids = bits === 16 ? new Uint16Array(width * height) : new Uint8Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const place = x * bits;
      const byte = rows[y * rowBytes + (place >> 3)] as number;
      ids[at] =
        bits === 16
          ? (byte << 8) | (rows[y * rowBytes + (place >> 3) + 1] as number)
          : (byte >> (8 - bits - (place & 7))) & ((1 << bits) - 1);
    }
  }
  return ids;
}
