// Reads the class ids of a mask's PNG file as they are stored: no colors, up to 16 bits. Pure.
//
// A browser's own decoder would convert them: it applies gamma and color profiles, and keeps 8 bits.

import type { Mask } from "./overlay";

const PIXELS_MAX = 1 << 26;

/** Returns the samples of a gray or indexed PNG file without interlacing. Null for any other file. */
export async function readGrayPng(file: ArrayBuffer): Promise<Mask | null> {
  const view = new DataView(file);
  if (view.byteLength < 33 || view.getUint32(0) !== 0x89504e47 || view.getUint32(12) !== 0x49484452) {
    return null;
  }
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const [bits, colorType, interlacing] = [view.getUint8(24), view.getUint8(25), view.getUint8(28)];
  if ((colorType !== 0 && colorType !== 3) || interlacing !== 0 || width * height > PIXELS_MAX) {
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
  const rowBytes = Math.ceil((width * bits) / 8);
  if (filtered.length < height * (rowBytes + 1)) {
    return null;
  }
  const rows = unfiltered(filtered, height, rowBytes, bits === 16 ? 2 : 1);
  return { width, height, ids: samples(rows, width, height, rowBytes, bits) };
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

function samples(
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
