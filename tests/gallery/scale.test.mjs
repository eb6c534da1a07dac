// A store of a million pictures: the grid, the contact sheet and the search reach every one, and the page stays small.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { tilesInPage } from "./daemon.mjs";
import { logIn, madeStore, settled, startBrowser, startGallery } from "./harness.mjs";

const N_STEPS = 100_000;

let browser;
let gallery;
before(async () => {
  browser = await startBrowser();
  gallery = await startGallery(madeStore("digits"));
});
after(async () => {
  await browser.close();
  await gallery.stop();
});

/** Waits until all tiles show a step, and carry it in their pixels. */
async function allShow(page, step) {
  const end = Date.now() + 20_000;
  let tiles;
  do {
    assert.ok(Date.now() < end, `want step ${step}, got ${JSON.stringify(tiles)}`);
    await sleep(50);
    tiles = await page.evaluate(tilesInPage);
    for (const tile of tiles) assert.equal(tile.label, tile.step, "a label is that of another picture");
  } while (tiles.length === 0 || tiles.some((tile) => tile.step !== step));
}

const nodes = (page) => page.evaluate(() => document.querySelectorAll("*").length);

test("every step of a million pictures can be reached", async () => {
  const { page, faults, context } = await logIn(browser, gallery);
  await page.goto(`${gallery.origin}/grid?run=run&size=140`);
  await allShow(page, N_STEPS - 1);
  await page.keyboard.press("Home");
  await allShow(page, 0);
  await page.keyboard.type("65537");
  await page.keyboard.press("Enter");
  await allShow(page, 65_537);
  await page.keyboard.press("ArrowRight");
  await allShow(page, 65_538);
  await page.keyboard.press("Shift+ArrowLeft");
  await allShow(page, 65_528);
  assert.ok((await nodes(page)) < 3000, `${await nodes(page)} nodes`);
  assert.deepEqual(faults, []);
  await context.close();
});

test("a contact sheet of a hundred thousand pictures has only some of them in the page", async () => {
  const { page, faults, context } = await logIn(browser, gallery);
  await page.goto(`${gallery.origin}/grid?run=run&key=val/digits3&lay=steps&size=140&step=0`);
  await settled(page);
  const shown = () => page.evaluate(tilesInPage);
  for (const share of [0, 0.5, 1]) {
    await page.evaluate((share) => {
      const scroller = document.querySelector("[role=grid]");
      scroller.scrollTop = share * scroller.scrollHeight;
    }, share);
    const end = Date.now() + 20_000;
    let tiles;
    do {
      assert.ok(Date.now() < end, `at ${share}: ${JSON.stringify(tiles)}`);
      await sleep(100);
      tiles = await shown();
    } while (tiles.length < 10 || tiles.some(({ step }) => Math.abs(step / N_STEPS - share) > 0.02));
    assert.ok(tiles.every(({ step, label }) => step === label));
    assert.ok((await nodes(page)) < 3000, `${await nodes(page)} nodes`);
  }
  assert.deepEqual(faults, []);
  await context.close();
});
