// What the loupe and a comparison cost for large photographs: the answers of the gallery, without a browser.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";

import { logInWithoutBrowser, percentile, python, safelight, startGallery, temporaryFolder } from "../harness.mjs";

const [WIDTH, HEIGHT] = [4000, 3000];
const WHAT = "photographs of 12 MP";

/** Writes the same picture twice, the second time with noise. */
const WRITE = `
import sys
import numpy as np
folder, width, height = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
y, x = np.mgrid[0:height, 0:width]
waves = [127 + 60 * np.sin(x / (90 + 40 * c)) + 60 * np.cos(y / (70 + 30 * c)) for c in range(3)]
picture = np.stack(waves, -1)
rng = np.random.default_rng(1)
for step in range(2):
    np.save(f"{folder}/{step}.npy", (picture + rng.normal(0, 2 + step, picture.shape)).clip(0, 255).astype("u1"))
`;

export async function large(row) {
  const folder = temporaryFolder();
  const [dumps, store] = [join(folder, "run/dumps/k"), join(folder, "store")];
  const made = spawnSync("sh", ["-c", 'mkdir -p "$1" && exec "$0" -c "$2" "$1" "$3" "$4"', python, dumps, WRITE, `${WIDTH}`, `${HEIGHT}`], {
    encoding: "utf8",
  });
  assert.equal(made.status, 0, made.stderr);
  safelight("ingest", join(folder, "run"), "--store", store);
  const gallery = await startGallery(store);
  const get = await logInWithoutBrowser(gallery);
  const place = (step) => `run=run&key=k&step=${step}&index=0`;
  /** The milliseconds until a whole answer is there. */
  const took = async (path) => {
    const start = performance.now();
    const answer = await get(path);
    const { byteLength } = await answer.arrayBuffer();
    assert.ok(byteLength > 0, path);
    return { ms: performance.now() - start, proof: answer.headers.get("safelight-proof") };
  };
  const around = (x, y) => `/api/v1/values.npy?${place(0)}&x=${x}&y=${y}&w=32&h=32`;
  const both = `a=${encodeURIComponent(place(0))}&b=${encodeURIComponent(place(1))}`;
  await row(`loupe, ${WHAT}: first values, with their proof`, "–", async () => {
    const { ms, proof } = await took(around(100, 100));
    return `${ms.toFixed(0)} ms (proof: ${proof})`;
  });
  await row(`loupe, ${WHAT}: values at another place, p95`, "≤ 100 ms", async () => {
    const times = [];
    for (let n = 0; n < 200; n++) {
      const [x, y] = [(n * 7919) % (WIDTH - 32), (n * 104_729) % (HEIGHT - 32)];
      times.push((await took(around(x, y))).ms);
    }
    return `${percentile(times, 95).toFixed(0)} ms (median ${percentile(times, 50).toFixed(0)} ms of 200)`;
  });
  await row(`compare, ${WHAT}: MSE, MAE, PSNR and SSIM`, "–", async () => `${(await took(`/api/v1/compare?${both}`)).ms.toFixed(0)} ms`);
  await row(`compare, ${WHAT}: difference map`, "–", async () => `${(await took(`/api/v1/compare.png?${both}`)).ms.toFixed(0)} ms`);
  await gallery.stop();
}
