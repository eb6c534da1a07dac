import { expect, it } from "vitest";
import { between, brief, byteText, halfOf, printed, statistics } from "./loupe";
import { type DType, floatOfHalf, type Tensor, type Values } from "./npy";

function tensor(dtype: DType, values: Values, width = values.length): Tensor {
  return { dtype, height: values.length / width, width, channels: 1, values, exact: null };
}

it("prints values as NumPy does", () => {
  const cases: [DType, Values, string][] = [
    ["float32", new Float32Array([0.1]), "0.1"],
    ["float32", new Float32Array([1 / 3]), "0.33333334"],
    ["float32", new Float32Array([16777216]), "16777216"],
    ["float32", new Float32Array([Number.NaN]), "nan"],
    ["float32", new Float32Array([Number.NEGATIVE_INFINITY]), "-inf"],
    ["float16", new Float32Array([floatOfHalf(0x3555)]), "0.3333"],
    ["float16", new Float32Array([floatOfHalf(0x2e66)]), "0.1"],
    // Of two that are equally near, the even one.
    ["float16", new Float32Array([0.78125]), "0.7812"],
    ["float32", new Float32Array([0.462890625]), "0.46289062"],
    ["float32", new Float32Array([0.474609375]), "0.47460938"],
    ["float64", new Float64Array([0.1]), "0.1"],
    ["uint8", new Uint8Array([7]), "7"],
    ["bool", new Uint8Array([1]), "True"],
  ];
  for (const [dtype, values, want] of cases) {
    expect(printed(tensor(dtype, values), 0, 0, 0)).toBe(want);
  }
  const exact = new BigInt64Array([9007199254740993n]);
  const big = { ...tensor("int64", new Float64Array([Number(exact[0])])), exact };
  expect(printed(big, 0, 0, 0)).toBe("9007199254740993");
  expect(printed(big, 5, 0, 0)).toBe("");
});

it("rounds to float16 as the bits say", () => {
  for (let bits = 0; bits < 0x7c00; bits++) {
    const value = floatOfHalf(bits);
    expect(halfOf(value)).toBe(value);
    // A third of the way to the next one.
    expect(halfOf(value + (floatOfHalf(bits + 1) - value) * 0.3)).toBe(
      bits === 0x7bff ? Number.POSITIVE_INFINITY : value,
    );
  }
});

it("is brief", () => {
  expect([0.123456, -0.5, 12345, 1234567, 1e-7, Number.NaN, 0, 3.21987].map((value) => brief(value))).toEqual(
    [".123", "-.5", "12345", "1230000", "1e-7", "nan", "0", "3.22"],
  );
  expect(byteText(171)).toBe("171 0xAB");
  expect(byteText(171, 4)).toBe("171 0x00AB");
});

it("sums up a rectangle, without NaN and infinities", () => {
  const values = new Float32Array([1, 2, Number.NaN, 4, 5, Number.POSITIVE_INFINITY]);
  const part = between({ x: 2, y: 1 }, { x: 0, y: 0 });
  expect(part).toEqual({ x: 0, y: 0, width: 3, height: 2 });
  expect(statistics(tensor("float32", values, 3), part)).toEqual([
    { min: 1, max: 5, mean: 3, nan: 1, inf: 1 },
  ]);
  const one = between({ x: 2, y: 0 }, { x: 2, y: 0 });
  expect(statistics(tensor("float32", values, 3), one)).toEqual([
    { min: null, max: null, mean: null, nan: 1, inf: 0 },
  ]);
});
