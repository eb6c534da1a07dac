// Reads the NumPy files of /api/v1/values.npy. Pure.

/** The values of one image: row by row, the channels of a pixel side by side. */
export interface Tensor {
  readonly dtype: DType;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** As numbers. Those of 64-bit integers are rounded; `exact` has them whole. */
  readonly values: Values;
  readonly exact: BigInt64Array | BigUint64Array | null;
}

export type Values =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

export type DType =
  | "bool"
  | "uint8"
  | "int8"
  | "uint16"
  | "int16"
  | "uint32"
  | "int32"
  | "uint64"
  | "int64"
  | "float16"
  | "float32"
  | "float64";

const DTYPES: Readonly<Record<string, DType>> = {
  b1: "bool",
  u1: "uint8",
  i1: "int8",
  u2: "uint16",
  i2: "int16",
  u4: "uint32",
  i4: "int32",
  u8: "uint64",
  i8: "int64",
  f2: "float16",
  f4: "float32",
  f8: "float64",
};

const MAGIC = "\x93NUMPY";

/** A file that is not read, and why. */
export class NpyError extends Error {}

/** Reads a file with the shape (h, w, c) or (h, w), in C order and little-endian. */
export function readNpy(file: ArrayBuffer): Tensor {
  const bytes = new Uint8Array(file);
  const text = (from: number, to: number) => String.fromCharCode(...bytes.subarray(from, to));
  if (text(0, 6) !== MAGIC || bytes.length < 12) {
    throw new NpyError("got no NumPy file");
  }
  const view = new DataView(file);
  const start = bytes[6] === 1 ? 10 : 12;
  const length = bytes[6] === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const data = start + length;
  if (data > bytes.length) {
    throw new NpyError(`the header says ${length} bytes, ${bytes.length - start} are there`);
  }
  const header = text(start, data);
  const descr = /'descr':\s*'([<>|=]?)([a-z]\d+)'/.exec(header);
  const dtype = DTYPES[descr?.[2] ?? ""];
  if (!dtype) {
    throw new NpyError(`no numbers that are shown here: ${header.trim()}`);
  }
  if (descr?.[1] === ">" || /'fortran_order':\s*True/.test(header)) {
    throw new NpyError(`want little-endian values in C order: ${header.trim()}`);
  }
  const shape = (/'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1] ?? "")
    .split(",")
    .filter((side) => side.trim() !== "")
    .map(Number);
  const [height, width, channels = 1] = shape;
  if (height === undefined || width === undefined || shape.length > 3) {
    throw new NpyError(`got shape (${shape.join(", ")}), want (height, width, channels)`);
  }
  const n = height * width * channels;
  const size = elementBytes(dtype);
  if (bytes.length - data < n * size) {
    throw new NpyError(`got ${bytes.length - data} bytes of values, want ${n * size}`);
  }
  // Typed arrays need aligned bytes.
  const aligned = data % 8 === 0 ? file : file.slice(data);
  const offset = data % 8 === 0 ? data : 0;
  return { dtype, height, width, channels, ...valuesOf(dtype, aligned, offset, n) };
}

/** The bytes of one value. */
export function elementBytes(dtype: DType): number {
  return dtype === "bool" ? 1 : Number(/\d+/.exec(dtype)?.[0]) / 8;
}

function valuesOf(
  dtype: DType,
  buffer: ArrayBuffer,
  offset: number,
  n: number,
): { values: Values; exact: Tensor["exact"] } {
  const plain = (values: Values) => ({ values, exact: null });
  switch (dtype) {
    case "bool":
    case "uint8":
      return plain(new Uint8Array(buffer, offset, n));
    case "int8":
      return plain(new Int8Array(buffer, offset, n));
    case "uint16":
      return plain(new Uint16Array(buffer, offset, n));
    case "int16":
      return plain(new Int16Array(buffer, offset, n));
    case "uint32":
      return plain(new Uint32Array(buffer, offset, n));
    case "int32":
      return plain(new Int32Array(buffer, offset, n));
    case "float32":
      return plain(new Float32Array(buffer, offset, n));
    case "float64":
      return plain(new Float64Array(buffer, offset, n));
    case "float16":
      return plain(Float32Array.from(new Uint16Array(buffer, offset, n), floatOfHalf));
    case "int64": {
      const exact = new BigInt64Array(buffer, offset, n);
      return { values: Float64Array.from(exact, Number), exact };
    }
    case "uint64": {
      const exact = new BigUint64Array(buffer, offset, n);
      return { values: Float64Array.from(exact, Number), exact };
    }
  }
}

/** Returns the value of the 16 bits of a float16. */
export function floatOfHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) {
    return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  }
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}
