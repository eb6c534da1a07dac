// A gallery of a daemon at work: pages follow new pictures, stay where somebody looks, and survive a kill.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Daemon, dump, tilesInPage } from "./daemon.mjs";
import { logIn, settled, startBrowser } from "./harness.mjs";

// A tile of 140 pixels shows a picture of 28 pixels at a whole factor and without a margin.
const GRID = "/grid?run=job&size=140";

let browser;
let daemon;
before(async () => {
  browser = await startBrowser();
  daemon = await Daemon.start("[ingest]\nsettle_ms = 50");
});
after(async () => {
  await browser.close();
  await daemon.end("SIGTERM");
});

/** Waits until tiles show a step. */
async function shown(page, step, n = 1) {
  const end = Date.now() + 15_000;
  for (;;) {
    const tiles = await page.evaluate(tilesInPage);
    for (const tile of tiles) assert.equal(tile.label, tile.step, "a label is that of another picture");
    if (tiles.filter((tile) => tile.step === step).length >= n) return;
    assert.ok(Date.now() < end, `want ${n} tiles of step ${step}, got ${JSON.stringify(tiles)} at ${page.url()}`);
    await sleep(30);
  }
}

test("an empty store says what to do, and its first picture comes by itself", async () => {
  const { page, faults, context } = await logIn(browser, daemon);
  await settled(page);
  assert.match(await page.innerText("main"), /no run/i);
  dump(daemon, "job", "val/a", 10);
  await page.getByRole("link", { name: /job/ }).first().waitFor({ timeout: 15_000 });
  assert.deepEqual(faults, []);
  await context.close();
});

test("the grid follows the newest step until the slider is moved", async () => {
  const { page, faults, context } = await logIn(browser, daemon);
  await page.goto(daemon.origin + GRID);
  await shown(page, 10);
  dump(daemon, "job", "val/a", 20);
  await shown(page, 20);
  await page.keyboard.press("ArrowLeft");
  await shown(page, 10);
  for (const step of [30, 40, 50]) dump(daemon, "job", "val/a", step);
  const pill = page.getByRole("button", { name: /3 new/ });
  await pill.waitFor({ timeout: 15_000 });
  await shown(page, 10);
  await pill.click();
  await shown(page, 50);
  dump(daemon, "job", "val/a", 60);
  await shown(page, 60);
  assert.deepEqual(faults, []);
  await context.close();
});

test("a key that has no picture at the step shows its own step", async () => {
  const { page, faults, context } = await logIn(browser, daemon);
  dump(daemon, "job", "val/b", 15);
  await page.goto(`${daemon.origin}${GRID}&step=20`);
  await shown(page, 20);
  await shown(page, 15);
  await page.keyboard.press("e");
  const end = Date.now() + 5000;
  let tiles;
  do {
    tiles = await page.evaluate(tilesInPage);
    assert.ok(Date.now() < end, `want tiles of step 20 alone, got ${JSON.stringify(tiles)}`);
  } while (tiles.length === 0 || tiles.some(({ step }) => step !== 20));
  assert.deepEqual(faults, []);
  await context.close();
});

test("two browsers see the same, and both go on after the daemon was killed", async () => {
  const first = await logIn(browser, daemon);
  const second = await logIn(await startBrowser(), daemon, { storageState: daemon.storageState });
  for (const { page } of [first, second]) {
    await page.goto(daemon.origin + GRID);
    await shown(page, 60);
  }
  await daemon.end("SIGKILL");
  dump(daemon, "job", "val/a", 70);
  await sleep(500);
  await daemon.go();
  // A login ends with the process: the pages say so, and a new one is asked for.
  for (const { page, context } of [first, second]) {
    await page.goto(daemon.login);
    await page.goto(daemon.origin + GRID);
    await shown(page, 70);
    const strange = await page.evaluate(() => document.body.innerText.match(/undefined|\[object/));
    assert.equal(strange, null);
    await context.close();
  }
  await second.context.browser()?.close();
});
