import { expect, it } from "vitest";
import { readMask, readPng } from "./png";

async function png(
  width: number,
  height: number,
  bits: number,
  colorType: number,
  filtered: number[],
): Promise<ArrayBuffer> {
  const chunk = (name: string, data: Uint8Array) => {
    const length = new Uint8Array(new Uint32Array([data.length]).buffer).reverse();
    return [...length, ...new TextEncoder().encode(name), ...data, 0, 0, 0, 0];
  };
  const side = (value: number) => [...new Uint8Array(new Uint32Array([value]).buffer).reverse()];
  const header = new Uint8Array([...side(width), ...side(height), bits, colorType, 0, 0, 0]);
  const file = [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, ...chunk("IHDR", header)];
  const stream = new Blob([new Uint8Array(filtered)]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  // Two pieces, as large files have.
  file.push(
    ...chunk("IDAT", data.subarray(0, 3)),
    ...chunk("IDAT", data.subarray(3)),
    ...chunk("IEND", new Uint8Array()),
  );
  return new Uint8Array(file).buffer;
}

it("reads class ids of every depth", async () => {
  const read = async (bits: number, filtered: number[], width: number, colorType = 0) => {
    const mask = await readMask(
      await png(width, filtered.length / (Math.ceil((width * bits) / 8) + 1), bits, colorType, filtered),
    );
    return [...(mask?.ids ?? [])];
  };
  expect(await read(8, [0, 1, 2, 200], 3)).toEqual([1, 2, 200]);
  expect(await read(8, [0, 1, 2, 200], 3, 3)).toEqual([1, 2, 200]);
  expect(await read(16, [0, 1, 44, 0, 7], 2)).toEqual([300, 7]);
  expect(await read(4, [0, 0x12, 0x30], 3)).toEqual([1, 2, 3]);
  expect(await read(1, [0, 0b10100000], 3)).toEqual([1, 0, 1]);
});

it("undoes all filters", async () => {
  // Rows: none, sub, up, average, Paeth.
  const filtered = [0, 1, 2, 3, 1, 5, 1, 1, 2, 1, 1, 1, 3, 1, 1, 1, 4, 1, 1, 1];
  const mask = await readMask(await png(3, 5, 8, 0, filtered));
  expect([...(mask?.ids ?? [])]).toEqual([1, 2, 3, 5, 6, 7, 6, 7, 8, 4, 6, 8, 5, 7, 9]);
});

it("leaves other files to the browser", async () => {
  expect(await readMask(new ArrayBuffer(100))).toBeNull();
  expect(await readMask(await png(1, 1, 8, 2, [0, 1, 2, 3]))).toBeNull();
  expect(await readPng(new ArrayBuffer(100))).toBeNull();
  expect(await readMask(await png(9, 9, 8, 0, [0, 1]))).toBeNull();
});

it("reads colors and alpha as they are stored", async () => {
  // The second row has the filter up, the second pixel of the first one the filter sub.
  const rgba = await readPng(
    await png(2, 2, 8, 6, [1, 10, 20, 30, 3, 1, 1, 1, 1, 2, 0, 0, 0, 1, 0, 0, 0, 1]),
  );
  expect(rgba).toMatchObject({ width: 2, height: 2, channels: 4 });
  expect([...(rgba?.values ?? [])]).toEqual([10, 20, 30, 3, 11, 21, 31, 4, 10, 20, 30, 4, 11, 21, 31, 5]);
  const deep = await readPng(await png(1, 1, 16, 2, [0, 1, 0, 2, 0, 255, 255]));
  expect([...(deep?.values ?? [])]).toEqual([256, 512, 65535]);
});
