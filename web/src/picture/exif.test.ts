import { describe, expect, it } from "vitest";
import { withoutExif } from "./exif";

const bytes = (...parts: (string | number[])[]) =>
  Uint8Array.from(
    parts.flatMap((part) => (typeof part === "string" ? [...part].map((c) => c.charCodeAt(0)) : part)),
  );
const joined = (parts: readonly Uint8Array[]) => parts.flatMap((part) => [...part]);

const SOI = [0xff, 0xd8];
const JFIF: (string | number[])[] = [[0xff, 0xe0, 0, 9], "JFIF\0\x01\x01"];
const EXIF: (string | number[])[] = [[0xff, 0xe1, 0, 12], "Exif\0\0abcd"];
const SCAN: (string | number[])[] = [[0xff, 0xda, 0, 4, 1, 2], "Exif\0\0, in the scan"];
const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const chunk = (type: string, data: string): (string | number[])[] => [
  [0, 0, 0, data.length],
  type + data,
  [1, 2, 3, 4],
];

describe("a file without its EXIF data", () => {
  it("is a JPEG without that segment", () => {
    const other: (string | number[])[] = [[0xff, 0xe1, 0, 7], "http:"];
    // Some programs write another byte than a zero after "Exif" and a zero.
    const odd: (string | number[])[] = [[0xff, 0xe1, 0, 12], "Exif\0 abcd"];
    const file = bytes(SOI, ...JFIF, ...EXIF, ...other, [0xff], ...EXIF, ...odd, ...SCAN);
    expect(joined(withoutExif(file))).toEqual([...bytes(SOI, ...JFIF, ...other, [0xff], ...SCAN)]);
  });

  it("is a PNG without that chunk, wherever it is", () => {
    const file = bytes(
      SIGNATURE,
      ...chunk("IHDR", "13"),
      ...chunk("eXIf", "MM"),
      ...chunk("IDAT", "eXIf"),
      ...chunk("eXIf", ""),
      ...chunk("IEND", ""),
    );
    const want = bytes(SIGNATURE, ...chunk("IHDR", "13"), ...chunk("IDAT", "eXIf"), ...chunk("IEND", ""));
    expect(joined(withoutExif(file))).toEqual([...want]);
  });

  it("is a WebP of the same length", () => {
    const file = (name: string) =>
      bytes("RIFF", [30, 0, 0, 0], "WEBPVP8 ", [3, 0, 0, 0], "abc\0", name, [2, 0, 0, 0], "II");
    expect(joined(withoutExif(file("EXIF")))).toEqual([...file("none")]);
    expect(joined(withoutExif(file("XMP ")))).toEqual([...file("XMP ")]);
    const twice = (name: string) =>
      bytes(...[0, 1].map(() => [...file(name)]).map((of, n) => of.slice(n * 12)));
    expect(joined(withoutExif(twice("EXIF")))).toEqual([...twice("none")]);
  });

  it("stays as it is if it is damaged or of another kind", () => {
    const whole = bytes(SOI, ...JFIF, ...EXIF, ...SCAN);
    for (const file of [
      bytes("GIF89a"),
      bytes(),
      whole.slice(0, 3),
      bytes(SIGNATURE, [255, 255, 255, 255], "eXI"),
    ]) {
      expect(joined(withoutExif(file))).toEqual([...file]);
    }
    // Cut off within the segment: what is there goes with it.
    expect(joined(withoutExif(whole.slice(0, 25)))).toEqual([...bytes(SOI, ...JFIF)]);
  });
});
