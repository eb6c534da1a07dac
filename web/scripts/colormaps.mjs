// Writes src/picture/colormaps.ts: the colors of each colormap, as the daemon draws them.
//
//     node scripts/colormaps.mjs PATH_OF_SAFELIGHT
//
// The program makes a picture of the samples 0 to 255 with each colormap, and this script reads its colors.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const NAMES = [
  "gray viridis magma inferno plasma cividis turbo cubehelix blues greens greys oranges",
  "purples reds spectral rdbu rdylbu rdylgn piyg prgn brbg puor",
].flatMap((line) => line.split(" "));
const TARGET = new URL("../src/picture/colormaps.ts", import.meta.url);

const program = process.argv[2];
if (!program) {
  throw new Error("usage: node scripts/colormaps.mjs PATH_OF_SAFELIGHT");
}
const folder = mkdtempSync(join(tmpdir(), "colormaps-"));
try {
  const [run, store] = [join(folder, "run"), join(folder, "store")];
  mkdirSync(run);
  writeFileSync(
    join(run, "ramp.raw"),
    Uint8Array.from({ length: 256 }, (_, value) => value),
  );
  const data = { path: "ramp.raw", dtype: "uint8", shape: [1, 256] };
  const lines = NAMES.map((colormap) =>
    JSON.stringify({ key: colormap, step: 0, data, format: "HW", colormap, file_type: "bmp" }),
  );
  writeFileSync(join(run, "ramp.media.jsonl"), lines.map((line) => `${line}\n`).join(""));
  execFileSync(program, ["ingest", run, "--store", store]);
  const listed = execFileSync(program, ["ls", "--store", store, "--json"], { encoding: "utf8" });
  const items = listed
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const tables = NAMES.map((name) => {
    const item = items.find(({ key }) => key === name);
    return `  ${name}: "${packed(colorsOfBmp(readFileSync(join(store, item.path))))}",\n`;
  });
  writeFileSync(
    TARGET,
    `// The colors of each colormap, as the daemon draws them. Written by scripts/colormaps.mjs.

/** Of each map, base64 of 768 bytes: all reds, then greens, then blues, each as the difference to the one before. */
export const PACKED_COLORS: Readonly<Record<string, string>> = {
${tables.join("")}};
`,
  );
} finally {
  rmSync(folder, { recursive: true });
}

/** Returns the red, green and blue of each column of a BMP file with one row. */
function colorsOfBmp(file) {
  const [start, bits] = [file.readUInt32LE(10), file.readUInt16LE(28)];
  const width = file.readInt32LE(18);
  if (width !== 256 || (bits !== 24 && bits !== 32)) {
    throw new Error(`got a BMP file with ${width} columns of ${bits} bits, want 256 of 24 or 32`);
  }
  return Array.from({ length: 256 }, (_, column) => {
    const at = start + (column * bits) / 8;
    return [file[at + 2], file[at + 1], file[at]];
  });
}

function packed(colors) {
  const planes = [0, 1, 2].flatMap((channel) =>
    colors.map((color, value) => color[channel] - (value > 0 ? colors[value - 1][channel] : 0)),
  );
  return Buffer.from(Int8Array.from(planes).buffer).toString("base64");
}
