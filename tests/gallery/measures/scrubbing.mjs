// The rate of ingest while a page scrubs. `./test.sh gallery measure` and `./test.sh gentle scrub` have it.

import { execFileSync, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { Daemon, dump } from "../daemon.mjs";
import { logIn, percentile, settled, startBrowser } from "../harness.mjs";

/**
 * The rate of ingest while a page's requests come, as a share of the rate without them. On one machine a browser would
 * take the cores that ingest needs. So the requests of one page that scrubs are noted first, and come again, at the same
 * times, from a small client that yields to the daemon. With and without take turns.
 */
export async function ingestWhileScrubbing(browser) {
  const n = 12_000;
  const rate = async (urls) => {
    const daemon = await Daemon.start("[ingest]\nsettle_ms = 50\n[work]\nnice = 0");
    for (let step = 0; step < 300; step++) dump(daemon, "seen", "val/a", step);
    await sleep(1500);
    const answer = await fetch(daemon.login, { redirect: "manual" });
    const cookie = answer.headers.getSetCookie()[0].split(";")[0];
    let noted = [];
    if (urls === "note") {
      const { page, context } = await logIn(browser, daemon);
      await page.goto(`${daemon.origin}/grid?run=seen&size=140`);
      await settled(page);
      const start = Date.now();
      page.on("request", (request) => noted.push([Date.now() - start, new URL(request.url()).pathname + new URL(request.url()).search]));
      const track = await page.locator("[role=slider].track").boundingBox();
      await page.mouse.move(track.x, track.y + 10);
      await page.mouse.down();
      for (let at = 0; at <= 200; at++) {
        await page.mouse.move(track.x + (track.width * at) / 200, track.y + 10);
        await sleep(25);
      }
      await context.close();
      await daemon.end("SIGTERM");
      return noted;
    }
    const script = `import json, sys, time, urllib.request
origin, cookie, path = sys.argv[1:]
urls = json.load(open(path))
while True:
    start = time.monotonic()
    for at, url in urls:
        time.sleep(max(0, start + at / 1000 - time.monotonic()))
        request = urllib.request.Request(origin + url, headers={"Cookie": cookie})
        try:
            urllib.request.urlopen(request, timeout=10).read()
        except urllib.error.HTTPError as error:
            if error.code not in (304, 410, 429):
                raise
`;
    const list = join(daemon.folder, "urls.json");
    writeFileSync(list, JSON.stringify(urls ?? []));
    const client =
      urls && spawn("nice", ["-n", "19", "python3", "-c", script, daemon.origin, cookie, list], { stdio: ["ignore", "ignore", "inherit"] });
    if (client) await sleep(500);
    const content = [...Array(n)].map((_, step) => [step, photograph(step)]);
    const start = performance.now();
    for (const [step, bytes] of content) dump(daemon, "job", "val/a", step, bytes);
    const count = () => JSON.parse(execFileSync("curl", ["-s", "-H", `Cookie: ${cookie}`, `${daemon.origin}/api/v1/keys?run=job`]).toString() || "[]");
    const end = Date.now() + 300_000;
    for (;;) {
      const keys = count();
      if (Array.isArray(keys) && keys[0]?.image === n) break;
      if (Date.now() > end) throw new Error(`ingest is not done: ${JSON.stringify(keys)}`);
      await sleep(200);
    }
    const took = performance.now() - start;
    client?.kill();
    await daemon.end("SIGTERM");
    return n / (took / 1000);
  };
  const urls = await rate("note");
  const [alone, watched] = [[], []];
  for (let turn = 0; turn < 3; turn++) {
    alone.push(await rate(undefined));
    watched.push(await rate(urls));
  }
  const [rate0, rate1] = [percentile(alone, 50), percentile(watched, 50)];
  return { percent: (100 * rate1) / rate0, alone: rate0, watched: rate1, n_requests: urls.length };
}

/** A picture of 128 x 128 x 3 as a NumPy file, different for each step. */
function photograph(step) {
  const side = 128;
  const header = `{'descr': '|u1', 'fortran_order': False, 'shape': (${side}, ${side}, 3), }`.padEnd(117) + "\n";
  const pixels = Buffer.alloc(side * side * 3);
  for (let at = 0; at < pixels.length; at++) pixels[at] = (at * 7 + step * 13 + (at >> 5)) & 255;
  return Buffer.concat([Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, 118, 0]), Buffer.from(header, "latin1"), pixels]);
}

// Alone, it prints its figures in JSON.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const browser = await startBrowser();
  console.log(JSON.stringify(await ingestWhileScrubbing(browser)));
  await browser.close();
}
