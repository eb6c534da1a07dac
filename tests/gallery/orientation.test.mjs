// A JPEG that was logged as it is, with EXIF data that ask a viewer to turn it: every page shows its pixels as stored,
// because its values, boxes and masks count them so.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { logIn, python, safelight, settled, startBrowser, startGallery, temporaryFolder } from "./harness.mjs";

/** A picture of the given size, red on its left and blue on its right, that EXIF asks to be turned by 90 degrees. */
const WRITE = `
import sys
from PIL import Image
path, width, height = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
picture = Image.new("RGB", (width, height), (220, 20, 20))
picture.paste((20, 20, 220), (width // 2, 0, width, height))
exif = Image.Exif()
exif[0x0112] = 6
picture.save(path, exif=exif, quality=95)
assert Image.open(path).getexif()[0x0112] == 6
`;

// The first is its own thumbnail, because it is small. Of the second one is made.
const SIZES = { "photo/small": [96, 64], "photo/large": [900, 600] };

let browser;
let gallery;
before(async () => {
  const folder = temporaryFolder();
  const run = join(folder, "run");
  mkdirSync(run);
  const lines = Object.entries(SIZES).map(([key, size], at) => {
    const made = spawnSync(python, ["-c", WRITE, join(run, `${at}.jpg`), ...size.map(String)], { encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
    return `${JSON.stringify({ key, step: 1, data: `${at}.jpg` })}\n`;
  });
  writeFileSync(join(run, "a.media.jsonl"), lines.join(""));
  const store = join(folder, "store");
  safelight("ingest", run, "--store", store);
  gallery = await startGallery(store);
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await gallery?.stop();
});

/** The shape and the sides of what an element shows. Runs in the page. */
function seen(element) {
  const { naturalWidth: width = element.width, naturalHeight: height = element.height } = element;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(element, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const pixel = (x, y) => data.slice((y * width + x) * 4, (y * width + x) * 4 + 4);
  const name = ([red, , blue, alpha]) => (alpha === 0 ? "-" : red > 150 ? "red" : blue > 150 ? "blue" : "other");
  // What is drawn, without the margin of a canvas.
  const drawn = [];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) if (pixel(x, y)[3] > 0) drawn.push([x, y]);
  const [left, right] = [0, 1].map((at) => drawn.map(([x]) => x).reduce((a, b) => (at ? Math.max(a, b) : Math.min(a, b))));
  const middle = drawn[drawn.length >> 1][1];
  const [first, last] = [Math.round(left + (right - left) / 4), Math.round(right - (right - left) / 4)];
  const rows = new Set(drawn.map(([, y]) => y)).size;
  return { sides: [name(pixel(first, middle)), name(pixel(last, middle))], isWide: right - left + 1 > rows };
}

const AS_STORED = { sides: ["red", "blue"], isWide: true };

test("a picture is shown as it is stored on every page", async () => {
  const { page, faults, context } = await logIn(browser, gallery);
  await page.goto(`${gallery.origin}/grid?run=run`);
  await settled(page);
  const tiles = page.locator(".tile[data-state=there] canvas");
  assert.equal(await tiles.count(), 2);
  for (const tile of await tiles.all()) assert.deepEqual(await tile.evaluate(seen), AS_STORED);
  for (const [key, [width, height]] of Object.entries(SIZES)) {
    await page.goto(`${gallery.origin}/item?${new URLSearchParams({ run: "run", key, step: "1" })}`);
    await settled(page);
    assert.deepEqual(await page.locator(".stage-canvas").first().evaluate(seen), AS_STORED, key);
    // The values are those of the same pixels.
    const values = await page.evaluate(async (key) => {
      const query = new URLSearchParams({ run: "run", key, step: "1", x: "1", y: "1", w: "1", h: "1" });
      const bytes = new Uint8Array(await (await fetch(`/api/v1/values.npy?${query}`)).arrayBuffer());
      return [...bytes.slice(-3)];
    }, key);
    assert.ok(values[0] > 150 && values[2] < 100, `${key} of ${width} x ${height}: ${values}`);
  }
  // Elements of pages, such as the thumbnail of a run. A script that draws one would draw it turned.
  for (const path of ["/", "/search?q=key~photo"]) {
    await page.goto(gallery.origin + path);
    await settled(page);
    const images = page.locator("main img");
    assert.ok((await images.count()) > 0, path);
    for (const image of await images.all()) {
      assert.equal(await image.evaluate((element) => getComputedStyle(element).imageOrientation), "none");
    }
  }
  assert.deepEqual(faults, []);
  await context.close();
});
