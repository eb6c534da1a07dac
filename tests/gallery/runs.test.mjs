// The list of more runs than one answer has: it is scrolled to its end, and grows while somebody looks.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Daemon, dump } from "./daemon.mjs";
import { logIn, settled, startBrowser } from "./harness.mjs";

/** The first answer has 200. */
const N_RUNS = 230;
const LIMIT = { timeout: 20_000 };

const name = (n) => `run-${String(n).padStart(3, "0")}`;

let browser;
let daemon;
before(async () => {
  browser = await startBrowser();
  daemon = await Daemon.start("[ingest]\nsettle_ms = 50");
  for (let n = 0; n < N_RUNS; n++) dump(daemon, name(n), "k", 1);
});
after(async () => {
  await browser.close();
  await daemon.end("SIGTERM");
});

/** Scrolls to the end of the rows that are known. */
const scrollDown = (page) =>
  page.evaluate(() => {
    const rows = document.querySelector("[role=grid]");
    rows.scrollTop = rows.scrollHeight;
  });

/** Scrolls down until a run is in the page. */
async function scrollTo(page, run) {
  const link = page.getByRole("link", { name: run });
  const end = Date.now() + LIMIT.timeout;
  while ((await link.count()) === 0) {
    assert.ok(Date.now() < end, `${run} does not come`);
    await scrollDown(page);
    await page.waitForTimeout(50);
  }
}

test("a list of hundreds of runs is scrolled to its end, and a new run joins it", async () => {
  const { page, faults, context } = await logIn(browser, daemon);
  await page.goto(`${daemon.origin}/?sort=name`);
  const list = page.getByRole("grid", { name: "Runs" });
  const asked = [];
  page.on("request", (request) => request.url().includes("/api/v1/runs?") && asked.push(request.url()));
  // The daemon still reads some runs.
  await page.locator(`[role=grid][aria-rowcount="${N_RUNS}"]`).waitFor({ timeout: 120_000 });
  await page.getByRole("link", { name: name(0) }).waitFor(LIMIT);
  await scrollTo(page, name(N_RUNS - 1));
  const last = list.getByRole("row").last();
  assert.equal(await last.getAttribute("aria-rowindex"), String(N_RUNS));
  assert.ok(asked.some((url) => url.includes("cursor=")), asked.join(" "));
  const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
  assert.ok(nodes < 3000, `${nodes} nodes`);
  // The list asks again, and keeps what was seen.
  dump(daemon, name(N_RUNS), "k", 1);
  await page.locator(`[role=grid][aria-rowcount="${N_RUNS + 1}"]`).waitFor(LIMIT);
  await scrollTo(page, name(N_RUNS));
  assert.deepEqual(faults, []);
  await context.close();
});

test("a list that is at its bottom while it asks again goes on", async () => {
  const { page, faults, context } = await logIn(browser, daemon);
  let isHeld = false;
  let release;
  const released = new Promise((resolve) => {
    release = resolve;
  });
  await page.route("**/api/v1/runs?**", async (route) => {
    if (isHeld && !route.request().url().includes("cursor=")) await released;
    await route.continue();
  });
  await page.goto(`${daemon.origin}/?sort=name`);
  await page.getByRole("link", { name: name(0) }).waitFor(LIMIT);
  await settled(page);
  isHeld = true;
  const again = page.waitForRequest((request) => request.url().includes("/api/v1/runs?"), LIMIT);
  dump(daemon, name(0), "k", 2);
  await again;
  await scrollDown(page);
  await page.getByRole("link", { name: name(199) }).waitFor(LIMIT);
  release();
  await scrollTo(page, name(N_RUNS - 1));
  assert.deepEqual(faults, []);
  await context.close();
});
