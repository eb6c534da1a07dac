// What a person sees: the first picture, scrubbing, labels.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { tilesInPage } from "../daemon.mjs";
import { logIn, percentile, repo, settled, startGallery, watchRequests } from "../harness.mjs";

const PHOTOGRAPHS = "/grid?run=run&step=5000";
const DIGITS = "/grid?run=run&step=50000&size=140";

/** Notes when the first picture is on the screen. Runs in the page before its own scripts. */
function noteFirstPicture() {
  const look = () => {
    const canvas = document.querySelector('.tile:not([data-state="waiting"]) canvas');
    if (canvas && canvas.width > 0 && document.querySelector(".tile-step")?.textContent) {
      globalThis.firstPicture = performance.now();
    } else {
      requestAnimationFrame(look);
    }
  };
  requestAnimationFrame(look);
}

/** The same on a page that is nothing but a picture. */
function noteBarePicture() {
  const look = () => {
    if (document.querySelector("img")?.naturalWidth > 0) globalThis.firstPicture = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

/** Until a new window of Chromium has loaded the pages of its own, which takes as much of the cores as ours. */
const ownPages = (page) => page.waitForTimeout(3000);

const firstPicture = (page) =>
  page.waitForFunction(() => globalThis.firstPicture, undefined, { timeout: 30_000 }).then((value) => value.jsonValue());

/** Starts a server of a page that is nothing but a picture. What it takes, the browser itself takes. */
async function startBarePage() {
  const picture = readFileSync(join(repo, "docs/images/object_store.png"));
  const page = '<!doctype html><title>picture</title><link rel="icon" href="data:,"><img src="/picture.png">';
  const server = createServer((request, response) => {
    const isPage = request.url === "/";
    response.setHeader("Content-Type", isPage ? "text/html" : "image/png");
    response.end(isPage ? page : picture);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { origin: `http://127.0.0.1:${server.address().port}`, server };
}

/** Presses the right arrow 200 times a second for 5 seconds. Notes frames and long tasks. Runs in the page. */
function scrub() {
  return new Promise((resolve) => {
    const [frames, tasks] = [[], []];
    const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration)));
    observer.observe({ entryTypes: ["longtask"] });
    let [start, last, pressed] = [performance.now(), performance.now(), 0];
    const frame = (now) => {
      frames.push(now - last);
      last = now;
      const due = Math.min(1000, Math.floor((now - start) / 5));
      for (; pressed < due; pressed++) {
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
      }
      if (pressed < 1000) {
        requestAnimationFrame(frame);
      } else {
        setTimeout(() => {
          observer.disconnect();
          resolve({ frames: frames.slice(1), tasks, took: performance.now() - start });
        }, 100);
      }
    };
    requestAnimationFrame((now) => {
      [start, last] = [now, now];
      requestAnimationFrame(frame);
    });
  });
}

async function emulateNetwork(page, latency, megabits) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.emulateNetworkConditions", {
    offline: false,
    latency,
    downloadThroughput: (megabits * 1e6) / 8,
    uploadThroughput: (megabits * 1e6) / 8,
  });
}

export async function inBrowser(row, stores, browser, minutes) {
  const photographs = await startGallery(stores.photographs);
  const digits = await startGallery(stores.digits);
  // Logs in, so that what follows is a cold browser with a cookie.
  for (const gallery of [photographs, digits]) await (await logIn(browser, gallery)).context.close();

  const cold = async (gallery, path, prepare) => {
    const { storageState } = gallery;
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, storageState });
    const page = await context.newPage();
    watchRequests(page);
    await page.addInitScript(noteFirstPicture);
    await page.addInitScript({ content: `globalThis.tilesInPage = ${tilesInPage};` });
    const answers = [];
    page.on("requestfinished", (request) => answers.push(request));
    await prepare?.(page);
    await ownPages(page);
    await page.goto(gallery.origin + path);
    return { page, context, answers, first: await firstPicture(page) };
  };

  await row("first picture, cold browser", "≤ 300 ms", async () => {
    const [times, bare] = [[], []];
    const { origin, server } = await startBarePage();
    for (let n = 0; n < 9; n++) {
      const { context, first } = await cold(photographs, PHOTOGRAPHS);
      times.push(first);
      await context.close();
      const other = await browser.newContext({ viewport: { width: 1440, height: 900 } });
      const page = await other.newPage();
      await page.addInitScript(noteBarePicture);
      await ownPages(page);
      await page.goto(origin);
      bare.push(await firstPicture(page));
      await other.close();
    }
    server.close();
    const [median, ofBrowser] = [times, bare].map((each) => percentile(each, 50).toFixed(0));
    return `${median} ms (median of 9), of which the browser takes ${ofBrowser} ms for a page with only a picture`;
  });
  await row("first picture at 50 ms, 20 Mbit/s", "≤ 1.5 s", async () => {
    const { context, first } = await cold(photographs, PHOTOGRAPHS, (page) => emulateNetwork(page, 50, 20));
    await context.close();
    return `${(first / 1000).toFixed(2)} s`;
  });
  await row("page itself", "≤ 60 KiB gzip, ≤ 30 requests, 1 on reload", async () => {
    const { page, context, answers } = await cold(photographs, PHOTOGRAPHS);
    await settled(page);
    const ofPage = (request) => !/\/(api|m|t)\//.test(new URL(request.url()).pathname);
    let [bytes, n] = [0, 0];
    for (const request of answers.filter(ofPage)) {
      bytes += gzipSync(await (await request.response()).body()).length;
      n += 1;
    }
    const session = await context.newCDPSession(page);
    await session.send("Network.enable");
    const again = new Map();
    session.on("Network.responseReceived", ({ requestId, response }) => {
      const isOfPage = !/\/(api|m|t)\//.test(new URL(response.url).pathname);
      if (isOfPage && !response.fromDiskCache && !response.fromPrefetchCache) again.set(requestId, response.url);
    });
    const fromMemory = [];
    session.on("Network.requestServedFromCache", ({ requestId }) => fromMemory.push(requestId));
    await page.reload();
    await settled(page);
    for (const requestId of fromMemory) again.delete(requestId);
    await context.close();
    return `${(bytes / 1024).toFixed(1)} KiB, ${n} requests, ${again.size} on reload`;
  });
  await row("first view, 24 photographs or more", "≤ 400 KiB", async () => {
    const { page, context, answers } = await cold(photographs, `${PHOTOGRAPHS}&lay=steps&key=val/photo0&size=256`);
    await settled(page);
    await page.waitForTimeout(1000);
    const n = await page.locator(".tile").count();
    let bytes = 0;
    for (const request of answers.filter((request) => /\/(api|m|t)\//.test(request.url()))) {
      bytes += (await request.sizes()).responseBodySize;
    }
    await context.close();
    return `${(bytes / 1024).toFixed(0)} KiB for ${n} tiles`;
  });
  await row("scrub 1,000 steps × 6 keys in 5 s", "≥ 95 % of frames ≤ 16.7 ms, no task > 50 ms", async () => {
    const { page, context } = await cold(photographs, PHOTOGRAPHS);
    await settled(page);
    const { frames, tasks, took } = await page.evaluate(scrub);
    await context.close();
    // A frame of a screen with 60 Hz takes 16.67 ms, give or take the clock's own steps.
    const good = frames.filter((ms) => ms <= 17.2).length;
    const longest = tasks.length ? `, ${tasks.length} tasks > 50 ms, the longest ${Math.max(...tasks).toFixed(0)} ms` : ", no task > 50 ms";
    return `${((100 * good) / frames.length).toFixed(1)} % of ${frames.length} frames in ${(took / 1000).toFixed(1)} s${longest}`;
  });
  for (const [what, goal, prepare] of [
    ["exact picture after rest", "≤ 150 ms", undefined],
    ["exact picture after rest at 50 ms, 20 Mbit/s", "≤ 400 ms", (page) => emulateNetwork(page, 50, 20)],
  ]) {
    await row(what, goal, async () => {
      const { page, context } = await cold(digits, DIGITS, prepare);
      await settled(page);
      const track = await page.locator("[role=slider].track").boundingBox();
      const times = [];
      for (let n = 0; n < 20; n++) {
        const at = 0.05 + 0.9 * ((n * 0.618) % 1);
        await page.mouse.move(track.x + track.width * ((at + 0.3) % 1), track.y + track.height / 2);
        await page.mouse.down();
        await page.mouse.move(track.x + track.width * at, track.y + track.height / 2, { steps: 10 });
        times.push(await page.evaluate(untilExact));
        await page.mouse.up();
      }
      await context.close();
      return `median ${percentile(times, 50).toFixed(0)} ms, p95 ${percentile(times, 95).toFixed(0)} ms of 20`;
    });
  }
  await row("label of another picture", "0 in 10,000 frames", async () => {
    const { page, context } = await cold(digits, DIGITS);
    await settled(page);
    const track = await page.locator("[role=slider].track").boundingBox();
    const y = track.y + track.height / 2;
    let [frames, tiles, wrong] = [0, 0, 0];
    await page.mouse.move(track.x, y);
    await page.mouse.down();
    for (let n = 0; frames < 10_000; n++) {
      const watching = page.evaluate(countLabels);
      for (let at = 0; at < 60; at++) {
        await page.mouse.move(track.x + track.width * Math.abs(Math.sin(n + at / 20)), y);
      }
      const counted = await watching;
      frames += counted.frames;
      tiles += counted.tiles;
      wrong += counted.wrong;
    }
    await context.close();
    return `${wrong} of ${tiles.toLocaleString("en")} pictures in ${frames.toLocaleString("en")} frames`;
  });
  await row(`page after ${minutes} minutes of scrubbing`, "heap ≤ 150 MiB, ≤ 3,000 nodes", async () => {
    const { page, context } = await cold(digits, DIGITS);
    const session = await context.newCDPSession(page);
    await session.send("Performance.enable");
    const end = Date.now() + minutes * 60_000;
    while (Date.now() < end) await page.evaluate(scrub);
    await session.send("HeapProfiler.collectGarbage");
    const { metrics } = await session.send("Performance.getMetrics");
    const of = (name) => metrics.find((metric) => metric.name === name).value;
    await context.close();
    return `heap ${(of("JSHeapUsedSize") / 2 ** 20).toFixed(0)} MiB, ${of("Nodes")} nodes`;
  });
  await photographs.stop();
  await digits.stop();
}

/** Waits until all tiles show the slider's step. Returns the milliseconds. Runs in the page. */
function untilExact() {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const look = () => {
      const step = Number(document.querySelector("[role=slider].track").getAttribute("aria-valuenow"));
      const tiles = globalThis.tilesInPage();
      const took = performance.now() - start;
      if (tiles.length > 3 && tiles.every((tile) => tile.step === step && tile.label === step)) resolve(took);
      else if (took > 10_000) reject(new Error(`want ${step}, got ${JSON.stringify(tiles.slice(0, 3))}`));
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
}

/** Watches one second of frames: how many pictures there were, and how many with the label of another one. */
function countLabels() {
  return new Promise((resolve) => {
    const counted = { frames: 0, tiles: 0, wrong: 0 };
    const look = () => {
      for (const { step, label } of globalThis.tilesInPage()) {
        counted.tiles += 1;
        if (step !== label) counted.wrong += 1;
      }
      counted.frames += 1;
      if (counted.frames < 60) requestAnimationFrame(look);
      else resolve(counted);
    };
    requestAnimationFrame(look);
  });
}
