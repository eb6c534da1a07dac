import { describe, expect, it } from "vitest";
import { floatOfHalf, NpyError, readNpy } from "./npy";

/** A file as numpy.save writes it. */
function npy(descr: string, shape: string, data: ArrayBufferView): ArrayBuffer {
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`;
  const header = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`;
  const head = new Uint8Array([
    0x93,
    0x4e,
    0x55,
    0x4d,
    0x50,
    0x59,
    1,
    0,
    header.length & 255,
    header.length >> 8,
  ]);
  const body = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const file = new Uint8Array(10 + header.length + body.length);
  file.set(head);
  file.set(new TextEncoder().encode(header), 10);
  file.set(body, 10 + header.length);
  return file.buffer;
}

describe("readNpy", () => {
  it.each([
    ["|b1", new Uint8Array([0, 1]), "bool", [0, 1]],
    ["|u1", new Uint8Array([0, 255]), "uint8", [0, 255]],
    ["|i1", new Int8Array([-128, 127]), "int8", [-128, 127]],
    ["<u2", new Uint16Array([0, 65535]), "uint16", [0, 65535]],
    ["<i2", new Int16Array([-32768, 1]), "int16", [-32768, 1]],
    ["<u4", new Uint32Array([0, 4294967295]), "uint32", [0, 4294967295]],
    ["<i4", new Int32Array([-2147483648, 1]), "int32", [-2147483648, 1]],
    ["<f2", new Uint16Array([0x3c00, 0xfc00]), "float16", [1, Number.NEGATIVE_INFINITY]],
    ["<f4", new Float32Array([0.5, Number.NaN]), "float32", [0.5, Number.NaN]],
    ["<f8", new Float64Array([0.1, -1e300]), "float64", [0.1, -1e300]],
  ])("reads %s", (descr, data, dtype, want) => {
    const tensor = readNpy(npy(descr, "(2, 1, 1)", data));
    expect(tensor).toMatchObject({ dtype, height: 2, width: 1, channels: 1, exact: null });
    expect([...tensor.values]).toEqual(want);
  });

  it("keeps 64-bit integers whole", () => {
    const tensor = readNpy(npy("<i8", "(1, 2)", new BigInt64Array([9007199254740993n, -1n])));
    expect(tensor.exact?.[0]).toBe(9007199254740993n);
    expect(tensor.values[1]).toBe(-1);
    expect(readNpy(npy("<u8", "(1, 1)", new BigUint64Array([18446744073709551615n]))).exact?.[0]).toBe(
      18446744073709551615n,
    );
  });

  it("reads values that are not aligned", () => {
    const file = npy("<f4", "(1, 1)", new Float32Array([7]));
    const view = new Uint8Array(file);
    const length = (view[8] ?? 0) + 256 * (view[9] ?? 0);
    const longer = new Uint8Array(file.byteLength + 1);
    longer.set(view.subarray(0, 10 + length));
    longer[10 + length] = 32;
    longer.set(view.subarray(10 + length), 11 + length);
    longer[8] = (length + 1) & 255;
    longer[9] = (length + 1) >> 8;
    expect(readNpy(longer.buffer).values[0]).toBe(7);
  });

  it.each([
    ["other bytes", new ArrayBuffer(100)],
    ["complex numbers", npy("<c8", "(1, 1)", new Float32Array(2))],
    ["big-endian numbers", npy(">f4", "(1, 1)", new Float32Array(1))],
    ["too few values", npy("<f4", "(2, 1)", new Float32Array(1))],
    ["too many axes", npy("<f4", "(1, 1, 1, 1)", new Float32Array(1))],
  ])("refuses %s", (_, file) => {
    expect(() => readNpy(file)).toThrow(NpyError);
  });
});

it("widens float16 exactly", () => {
  const cases: [number, number][] = [
    [0x0000, 0],
    [0x8000, -0],
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x3555, 0.333251953125],
    [0x7bff, 65504],
    [0x7c00, Number.POSITIVE_INFINITY],
    [0x7e00, Number.NaN],
  ];
  for (const [bits, want] of cases) {
    expect(floatOfHalf(bits)).toBe(want);
  }
});
