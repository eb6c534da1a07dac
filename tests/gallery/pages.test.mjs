// Every page, in both themes and at two widths: axe finds nothing, and the page does nothing wrong.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { axe, contentStore, digitsStore, logIn, repo, settled, startBrowser, startGallery } from "./harness.mjs";

// SAFELIGHT_SCREENSHOTS=1 keeps a screenshot of each page in target/gallery.
const screenshots = process.env.SAFELIGHT_SCREENSHOTS && join(repo, "target/gallery");

const PAGES = {
  digits: [
    ["runs", "/"],
    ["grid", "/grid?run=digits"],
    ["grid of steps", "/grid?run=digits&lay=steps&key=val/all"],
    ["item with NaN", "/item?run=digits&key=val/confidence&step=300&index=0"],
    ["item of a key with many", "/item?run=digits&key=val/all&step=300&index=7"],
    ["held item", "/item?run=digits&key=val/all&step=300&index=110"],
    ["search", "/search?q=nan%3E0"],
    ["search without an answer", "/search?q=caption~nothing-has-this"],
    ["search with a mistake", "/search?q=nam%3E0"],
    ["missing page", "/runs"],
    ["missing run", "/grid?run=nowhere"],
    ["missing item", "/item?run=digits&key=val/all&step=7&index=0"],
  ],
  content: [
    ["runs", "/"],
    ["grid of photographs", "/grid?run=@0"],
    ["grid of runs", "/grid?run=@0&run=@1&run=@2&lay=runs"],
    ["search for held items", "/search?q=state:held"],
  ],
};

let browser;
before(async () => {
  browser = await startBrowser();
  if (screenshots) mkdirSync(screenshots, { recursive: true });
});
after(() => browser.close());

for (const [content, pages] of Object.entries(PAGES)) {
  test(`pages of ${content}`, async (context) => {
    const store = content === "digits" ? digitsStore() : contentStore();
    const gallery = await startGallery(store);
    context.after(gallery.stop);
    for (const colorScheme of ["light", "dark"]) {
      const { page, faults, context: pagesOf } = await logIn(browser, gallery, { colorScheme });
      const runs = await page.evaluate(async () => (await (await fetch("/api/v1/runs")).json()).runs.map(({ run }) => run));
      for (const width of [1440, 900]) {
        await page.setViewportSize({ width, height: 900 });
        for (const [name, path] of pages) {
          await context.test(`${name}, ${colorScheme}, ${width}`, async () => {
            faults.length = 0;
            await page.goto(gallery.origin + path.replaceAll(/@(\d)/g, (_, at) => encodeURIComponent(runs[at])));
            await settled(page);
            if (name === "missing page") await page.getByText("There is no such page").waitFor({ timeout: 30_000 });
            if (screenshots) {
              const file = `${content} ${name} ${colorScheme} ${width}.png`.replaceAll(" ", "-");
              await page.screenshot({ path: join(screenshots, file) });
            }
            assert.deepEqual(await axe(page), []);
            // Chromium reports each answer that is an error. What is missing or mistaken is answered so on purpose.
            const isMeant = (fault) => /missing|mistake/.test(name) && /status of 40[04]/.test(fault);
            assert.deepEqual(faults.filter((fault) => !isMeant(fault)), []);
            const scrolls = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
            assert.equal(scrolls, false, "the page scrolls sideways");
          });
        }
      }
      await pagesOf.close();
    }
  });
}
