// Names and captions that try to be more than text, and files that are not what they say.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { coded } from "./daemon.mjs";
import { logIn, safelight, settled, startBrowser, startGallery, temporaryFolder } from "./harness.mjs";

// What each text would do if it were read as something else than text.
const TEXTS = [
  "<img src=x onerror=globalThis.broken=1>",
  "<script>globalThis.broken=1</script>",
  "\"><svg onload=globalThis.broken=1>",
  "javascript:globalThis.broken=1",
  "{{constructor.constructor('globalThis.broken=1')()}}",
  "</title></textarea></script><script>globalThis.broken=1</script>",
  "a\u202egnp.exe\u2066\u200b",
  "%00%0d%0aSet-Cookie: a=b",
  "a&run=other#b?c=d",
  "../../../../etc/passwd",
  "é".repeat(400),
  "\u0301\u0489".repeat(100),
];

let browser;
let gallery;
let keys;

before(async () => {
  browser = await startBrowser();
  const folder = temporaryFolder();
  const run = join(folder, "runs", "run & <b>name</b>");
  mkdirSync(join(run, "tensors"), { recursive: true });
  // Empty parts and dots make no key.
  keys = TEXTS.map((text) => `val/${text.replaceAll("/", "|").replaceAll("..", "dots")}`);
  const lines = TEXTS.map((text, at) => {
    writeFileSync(join(run, `tensors/${at}.npy`), coded(at));
    return JSON.stringify({ key: keys[at], step: at, data: `tensors/${at}.npy`, caption: text });
  });
  lines.push(JSON.stringify({ key: TEXTS[0], step: 1, data: `tensors/${TEXTS[1]}.npy`, caption: TEXTS[2] }));
  writeFileSync(join(run, "train.media.jsonl"), `${lines.join("\n")}\n`);
  writeFileSync(join(run, "safelight.json"), JSON.stringify({ name: TEXTS[0], config: { [TEXTS[1]]: TEXTS[2] } }));
  safelight("ingest", run, "--store", join(folder, "store"));
  gallery = await startGallery(join(folder, "store"));
});
after(async () => {
  await browser.close();
  await gallery.stop();
});

/** Waits until a page has a text, every character of it. */
const hasText = (page, text) =>
  page.waitForFunction((text) => document.body.textContent.includes(text), text, { timeout: 30_000 });

/** Checks that a page shows text as text. */
async function isHarmless(page, faults) {
  await settled(page);
  assert.equal(await page.evaluate(() => globalThis.broken), undefined, "a text was run as a script");
  const strange = await page.evaluate(() => document.querySelectorAll("img[src=x], script:not([src]), [onerror], [onload]").length);
  assert.equal(strange, 0, "a text became an element");
  assert.deepEqual(faults, []);
}

test("hostile names and captions are text on every page", async () => {
  const { page, faults, context } = await logIn(browser, gallery);
  const run = await page.evaluate(async () => (await (await fetch("/api/v1/runs")).json()).runs[0].run);
  const parameters = (more) => new URLSearchParams({ run, ...more });
  await page.goto(gallery.origin);
  await hasText(page, TEXTS[0]);
  await isHarmless(page, faults);
  for (const lay of ["keys", "runs"]) {
    await page.goto(`${gallery.origin}/grid?${parameters({ lay, step: "last" })}`);
    await page.locator(".tile canvas").first().waitFor();
    await isHarmless(page, faults);
  }
  for (const [at, key] of keys.entries()) {
    await page.goto(`${gallery.origin}/item?${parameters({ key, step: String(at), index: "0" })}`);
    await hasText(page, TEXTS[at]);
    await isHarmless(page, faults);
  }
  for (const text of TEXTS) {
    await page.goto(`${gallery.origin}/search?${new URLSearchParams({ q: JSON.stringify(text) })}`);
    await settled(page);
    faults.splice(0, faults.length, ...faults.filter((fault) => !/status of 400/.test(fault)));
    await isHarmless(page, faults);
  }
  await context.close();
});

test("an address with nonsense is a page that says so, or shows what there is", async () => {
  const { page, faults, context } = await logIn(browser, gallery);
  for (const path of [
    "/grid?run=%00",
    "/grid?run=x&step=-1&size=1e9&lay=nonsense",
    "/item?run=x&key=y&step=99999999999999999999&index=-3",
    "/item?z=NaN,NaN,Infinity&dev=a,b,c&ov=%7B&show=,,,",
    "/compare?a=%&b=&way=nowhere",
    "/compare?a=run%3Dx&b=run%3Dy&b=run%3Dz",
    "/search?q=%22",
  ]) {
    await page.goto(gallery.origin + path);
    await settled(page);
    const text = await page.innerText("body");
    assert.ok(text.trim().length > 20, `${path}: an empty page`);
    assert.doesNotMatch(text, /undefined|\[object|NaN,|null,/, path);
    const scripts = faults.filter((fault) => !/status of 40[04]/.test(fault));
    assert.deepEqual(scripts, [], path);
    faults.length = 0;
  }
  await context.close();
});
