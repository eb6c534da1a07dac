// Pictures without the wish to be turned. Pure.
//
// Values, boxes and masks count the pixels of a picture as they are stored. A browser that decodes a file turns it as
// its EXIF data say, and `createImageBitmap` has no option against that in Chromium.

type Bytes = Uint8Array<ArrayBuffer>;

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/**
 * The parts of a file in which no browser finds EXIF data. A file of another kind stays as it is. A file that ends
 * within its EXIF data loses what is there of them.
 */
export function withoutExif(file: Bytes): Bytes[] {
  if (startsWith(file, 0, [0xff, 0xd8])) return withoutSegments(file);
  if (startsWith(file, 0, PNG)) return withoutChunks(file);
  if (isText(file, 0, "RIFF") && isText(file, 8, "WEBP")) return withUnknownChunks(file);
  return [file];
}

/** JPEG: segments of a marker, a length that counts itself, and bytes, up to the start of the scan. */
function withoutSegments(file: Bytes): Bytes[] {
  const parts: Bytes[] = [];
  const view = viewOf(file);
  let kept = 0;
  for (let at = 2; at + 10 <= file.length && file[at] === 0xff && file[at + 1] !== 0xda; ) {
    // Any number of 0xff may stand before a marker.
    if (file[at + 1] === 0xff) {
      at++;
      continue;
    }
    const next = at + 2 + view.getUint16(at + 2);
    // Browsers take any byte after the zero.
    if (file[at + 1] === 0xe1 && isText(file, at + 4, "Exif\0")) {
      parts.push(file.subarray(kept, at));
      kept = next;
    }
    at = next;
  }
  return [...parts, file.subarray(kept)];
}

/** PNG: chunks of a length, a type, so many bytes, and a checksum. */
function withoutChunks(file: Bytes): Bytes[] {
  const parts: Bytes[] = [];
  const view = viewOf(file);
  let kept = 0;
  for (let at = PNG.length; at + 12 <= file.length; ) {
    const next = at + 12 + view.getUint32(at);
    if (isText(file, at + 4, "eXIf")) {
      parts.push(file.subarray(kept, at));
      kept = next;
    }
    at = next;
  }
  return [...parts, file.subarray(kept)];
}

/** WebP: the length of the file counts all chunks, so EXIF chunks get a name that no decoder knows. */
function withUnknownChunks(file: Bytes): Bytes[] {
  const parts: Bytes[] = [];
  const view = viewOf(file);
  let kept = 0;
  for (let at = 12; at + 8 <= file.length; ) {
    if (isText(file, at, "EXIF")) {
      parts.push(file.subarray(kept, at), new TextEncoder().encode("none"));
      kept = at + 4;
    }
    const length = view.getUint32(at + 4, true);
    at += 8 + length + (length % 2);
  }
  return [...parts, file.subarray(kept)];
}

function viewOf(file: Bytes): DataView {
  return new DataView(file.buffer, file.byteOffset, file.byteLength);
}

function startsWith(file: Bytes, at: number, bytes: readonly number[]): boolean {
  return bytes.every((byte, i) => file[at + i] === byte);
}

function isText(file: Bytes, at: number, text: string): boolean {
  return startsWith(
    file,
    at,
    [...text].map((character) => character.charCodeAt(0)),
  );
}
