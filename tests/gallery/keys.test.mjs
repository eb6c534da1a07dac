// Every shortcut, by its key and by its button: both do the same.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { digitsStore, logIn, settled, startBrowser, startGallery } from "./harness.mjs";

const GRID = "/grid?run=digits&step=180";
const ITEM = "/item?run=digits&key=feature_maps/conv1&step=180&index=5";
const NAN = "/item?run=digits&key=val/confidence&step=300&index=0";
const COMPARE =
  "/compare?a=run%3Ddigits%26key%3Dfeature_maps%2Fconv1%26step%3D60%26index%3D0&b=run%3Ddigits%26key%3Dfeature_maps%2Fconv1%26step%3D300%26index%3D0";

// How long a check waits.
const LIMIT = { timeout: 30_000 };

// Where, the key, the name of its button, and what it does to the address or to the page.
const inUrl = (pattern) => (page) => page.waitForFunction((text) => new RegExp(text).test(location.href), pattern.source, LIMIT);
const shows = (selector) => (page) => page.locator(selector).first().waitFor(LIMIT);

const SHORTCUTS = [
  [GRID, "ArrowLeft", "Previous step", inUrl(/step=120/)],
  [GRID, "ArrowRight", "Next step", inUrl(/step=240/)],
  [GRID, "Home", "First step", inUrl(/step=60/)],
  [GRID, "End", "Newest step, and follow it", inUrl(/^(?!.*step=\d)/)],
  [GRID, "e", "Only pictures of exactly this step", inUrl(/exact/)],
  [GRID, "+", "Larger tiles; zoom in", inUrl(/size=/)],
  [GRID, "-", "Smaller tiles; zoom out", inUrl(/size=/)],
  [ITEM, "ArrowLeft", "Previous step", inUrl(/step=120/)],
  [ITEM, "ArrowRight", "Next step", inUrl(/step=240/)],
  [ITEM, "Home", "First step", inUrl(/step=60/)],
  [ITEM, "[", "Previous index", inUrl(/index=4/)],
  [ITEM, "]", "Next index", inUrl(/index=6/)],
  [NAN, "j", "Next key", inUrl(/key=(?!val(%2F|\/)confidence)/)],
  [ITEM, "k", "Previous key", inUrl(/key=(?!feature)/)],
  [ITEM, "+", "Larger tiles; zoom in", inUrl(/z=/)],
  [ITEM, "-", "Smaller tiles; zoom out", inUrl(/z=/)],
  [ITEM, "1", "One pixel for one pixel", inUrl(/z=1/)],
  [ITEM, "s", "Smooth or sharp pixels", inUrl(/show=[^&]*smooth/)],
  [ITEM, "v", "Loupe: values under the pointer", inUrl(/show=[^&]*loupe/)],
  [ITEM, "h", "Histogram", inUrl(/show=[^&]*histogram/)],
  [ITEM, "g", "Logarithmic histogram", inUrl(/show=[^&]*log/)],
  [ITEM, "d", "Develop: range, gamma, colormap", inUrl(/show=[^&]*develop/)],
  [ITEM, "Escape", "Back", inUrl(/\/grid/)],
  [NAN, "m", "Marks of NaN, Inf and clipped values", inUrl(/show=[^&]*marks/)],
  [NAN, "n", "Next NaN or Inf", inUrl(/z=/)],
  [COMPARE, "ArrowRight", "Next step", inUrl(/step/)],
  [GRID, "?", "Show all keys", shows("dialog[open]")],
  [GRID, "t", "Theme: as the system, light, dark", shows("html[data-theme]")],
];

let browser;
let gallery;
before(async () => {
  browser = await startBrowser();
  gallery = await startGallery(digitsStore());
});
after(async () => {
  await browser.close();
  await gallery.stop();
});

test("each key and its button do the same", async (context) => {
  for (const [path, key, name, check] of SHORTCUTS) {
    await context.test(`${key} on ${path}`, async () => {
      const { page, faults, context: pages } = await logIn(browser, gallery);
      const after = [];
      for (const by of ["key", "button"]) {
        await page.evaluate(() => localStorage.clear());
        await page.goto(gallery.origin + path);
        await settled(page);
        if (by === "key") await page.keyboard.press(key);
        else await page.locator(`button[title^="${name} ("]`).first().click(LIMIT);
        await check(page);
        await settled(page);
        after.push(page.url());
      }
      assert.equal(after[1], after[0], "the button leads to another view than the key");
      assert.deepEqual(faults, []);
      await pages.close();
    });
  }
});

test("each key that the help lists has a button on its page", async (context) => {
  // What keys do to tiles, rows, steps and compared pictures, the pointer does to them; the search has its field, the
  // way back is the browser's, and flicker has a button to hold.
  const byPointer = /^(Select|Open|10 steps|Jump|Choose|Compare A|Search|Back$|Play; in compare)/;
  const others = ["60", "120"].map((step) => `&b=run%3Ddigits%26key%3Dfeature_maps%2Fconv1%26step%3D${step}%26index%3D1`);
  const pages = ["/", GRID, `${ITEM}&show=marks`, `${COMPARE}${others.join("")}&way=flicker`, "/search?q=nan%3E0"];
  const { page, faults, context: closing } = await logIn(browser, gallery);
  for (const path of pages) {
    await context.test(path, async () => {
      await page.goto(gallery.origin + path);
      await settled(page);
      await page.keyboard.press("?");
      const rows = page.locator("dialog .keys li");
      await rows.first().waitFor(LIMIT);
      const listed = await rows.evaluateAll((all) => all.map((row) => [row.firstChild.data, row.querySelector("kbd").innerText]));
      const titles = await page.locator("button[title]").evaluateAll((all) => all.map(({ title }) => title));
      const missing = listed.filter(([does, key]) => !byPointer.test(does) && !titles.includes(`${does} (${key})`));
      assert.deepEqual(missing, []);
    });
  }
  assert.deepEqual(faults, []);
  await closing.close();
});

test("the next NaN is gone to once its marks are made", async () => {
  const { page, faults, context: pages } = await logIn(browser, gallery);
  let letGo;
  const values = new Promise((go) => {
    letGo = go;
  });
  await page.route("**/api/v1/values.npy?**", async (route) => {
    await values;
    await route.continue();
  });
  await page.goto(gallery.origin + NAN);
  await page.locator('button[title^="Next NaN or Inf ("]').first().waitFor(LIMIT);
  await page.keyboard.press("n");
  letGo();
  await inUrl(/z=/)(page);
  assert.deepEqual(faults, []);
  await pages.close();
});
