// Writes the screenshots of docs/gallery.md and the README: node tests/gallery/screenshots.mjs
//
// Needs what `./test.sh gallery` installs, a release build, and a Python with Pillow in SAFELIGHT_PYTHON.

import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";

import { contentStore, logIn, repo, settled, startBrowser, startGallery } from "./harness.mjs";

const place = (run, key, step, index = 0) => new URLSearchParams({ run, key, step: String(step), index: String(index) });
const RUN = "unet-lr3e-3";

const SHOTS = [
  ["gallery-grid", "dark", `/grid?run=${RUN}&key=val/*&step=800`],
  ["gallery-runs", "light", `/grid?run=${RUN}&run=unet-deep&run=unet-focal&lay=runs&key=val/*&step=800&size=200`],
  ["gallery-item", "dark", `/item?${place(RUN, "val/photo", 800)}&show=loupe,histogram,overlays`],
  ["gallery-depth", "light", `/item?${place(RUN, "val/depth", 800, 1)}&show=loupe,histogram,develop,marks`],
  [
    "gallery-compare",
    "dark",
    `/compare?${new URLSearchParams({ a: place(RUN, "val/photo", 800), b: place(RUN, "val/recon", 800), way: "map" })}`,
  ],
];

const gallery = await startGallery(contentStore());
const browser = await startBrowser();
for (const [name, colorScheme, path] of SHOTS) {
  const { page, context } = await logIn(browser, gallery, { colorScheme });
  await page.goto(gallery.origin + path);
  await settled(page);
  await page.waitForTimeout(500);
  const png = join(repo, "docs/images", `${name}.png`);
  await page.screenshot({ path: png });
  const script = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2], quality=82, method=6)";
  const done = spawnSync(process.env.SAFELIGHT_PYTHON ?? "python3", ["-c", script, png, png.replace(".png", ".webp")]);
  if (done.status !== 0) throw new Error(done.stderr.toString());
  rmSync(png);
  await context.close();
}
await browser.close();
await gallery.stop();
