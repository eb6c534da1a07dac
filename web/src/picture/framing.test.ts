import { expect, test } from "vitest";
import { FrameParser } from "./framing";

function frame(head: object, body: number[]): number[] {
  const json = new TextEncoder().encode(JSON.stringify(head));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, json.length, true);
  return [...length, ...json, ...body];
}

const heads = [
  { run: "a", key: "é", step: 1, index: 0, sha20: "0", type: "image/png", size: 3, width: 2, height: 1 },
  {
    run: "a",
    key: "k",
    step: "18446744073709551615",
    index: 0,
    sha20: "",
    type: "",
    size: 0,
    width: 0,
    height: 0,
  },
  { run: "b", key: "k", step: 2, index: 4, sha20: "1", type: "image/jpeg", size: 1, width: 2, height: 1 },
];
const bodies = [[1, 2, 3], [], [255]];
const bytes = new Uint8Array(heads.flatMap((head, i) => frame(head, bodies[i] ?? [])));

test("any split of the bytes gives the same frames", () => {
  for (let size = 1; size <= bytes.length; size++) {
    const parser = new FrameParser();
    const got = [];
    for (let at = 0; at < bytes.length; at += size) got.push(...parser.push(bytes.slice(at, at + size)));
    parser.end();
    expect(
      got.map(({ head }) => head),
      `pieces of ${size}`,
    ).toEqual(heads);
    expect(got.map((one) => [...one.bytes])).toEqual(bodies);
  }
});

test("an incomplete answer is an error", () => {
  for (const length of [1, 4, 20, bytes.length - 1]) {
    const parser = new FrameParser();
    parser.push(bytes.slice(0, length));
    expect(() => parser.end(), String(length)).toThrow("bytes of a frame");
  }
});

test("bytes that are no frames are an error", () => {
  expect(() => new FrameParser().push(new Uint8Array([255, 255, 255, 255, 0]))).toThrow("got a head of");
  expect(() => new FrameParser().push(new Uint8Array([0, 0, 0, 0]))).toThrow("got a head of 0");
  expect(() => new FrameParser().push(new Uint8Array([2, 0, 0, 0, 123, 0]))).toThrow();
  const negative = new Uint8Array(frame({ size: -1 }, []));
  expect(() => new FrameParser().push(negative)).toThrow("picture of -1 bytes");
});
