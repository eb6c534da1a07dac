// A daemon at work, with a page open and without.

import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, watch, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Daemon, dump, tilesInPage } from "../daemon.mjs";
import { cpuOf, logIn, memoryOf, percentile, settled, temporaryFolder } from "../harness.mjs";

const GRID = "/grid?run=job&size=140";

/** The share of a core that the daemon takes while `during` runs, in per cent. */
async function share(daemon, during) {
  const [cpu, start] = [cpuOf(daemon.child.pid), performance.now()];
  await during();
  return ((cpuOf(daemon.child.pid) - cpu) * 100_000) / (performance.now() - start);
}

/** Writes 10 pictures a second. */
async function writing(daemon, from, seconds) {
  const start = performance.now();
  for (let n = 0; n < seconds * 10; n++) {
    dump(daemon, "job", "val/a", from + n);
    await sleep(Math.max(0, start + (n + 1) * 100 - performance.now()));
  }
}

export async function atWork(row, stores, browser) {
  const daemon = await Daemon.start("[ingest]\nsettle_ms = 50");
  dump(daemon, "job", "val/a", 1);
  await sleep(1000);
  const open = async () => {
    const opened = await logIn(browser, daemon);
    await opened.page.goto(daemon.origin + GRID);
    await settled(opened.page);
    return opened;
  };

  await row("commit to screen, p99", "≤ 500 ms", async () => {
    const { page, context } = await open();
    await page.addInitScript({ content: `globalThis.tilesInPage = ${tilesInPage};` });
    await page.reload();
    const commits = [];
    const journal = join(daemon.folder, "store/runs/job/journal");
    const watcher = watch(journal, () => commits.push(Date.now()));
    const took = [];
    for (let step = 100; step < 200; step++) {
      commits.length = 0;
      dump(daemon, "job", "val/a", step);
      const seen = await page.evaluate(
        (step) =>
          new Promise((resolve, reject) => {
            const start = Date.now();
            const look = () => {
              if (globalThis.tilesInPage().some((tile) => tile.step === step)) resolve(Date.now());
              else if (Date.now() - start > 10_000) reject(new Error(`step ${step} is not shown`));
              else requestAnimationFrame(look);
            };
            look();
          }),
        step,
      );
      if (commits.length === 0) throw new Error("the journal did not change");
      took.push(seen - commits[0]);
      await sleep(100);
    }
    watcher.close();
    await context.close();
    return `median ${percentile(took, 50)} ms, p99 ${percentile(took, 99)} ms of 100`;
  });

  for (const [what, goal, during] of [
    ["CPU for an open page, idle run", "≤ 0.1 % of a core more", () => sleep(30_000)],
    ["CPU for an open page, 10 images a second", "≤ 1 % of a core more", undefined],
  ]) {
    await row(what, goal, async () => {
      const run = (from) => during ?? (() => writing(daemon, from, 30));
      const alone = await share(daemon, run(10_000));
      const { context } = await open();
      await sleep(2000);
      const watched = await share(daemon, run(20_000));
      await context.close();
      return `${(watched - alone).toFixed(2)} % more (${alone.toFixed(2)} % without, ${watched.toFixed(2)} % with)`;
    });
  }
  await daemon.end("SIGTERM");

  await row("memory of the daemon with an open page, 10⁶ items", "≤ 32 MiB more", async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "runs"));
    cpSync(stores.digits, join(folder, "store"), { recursive: true, filter: (path) => !path.includes("/media/") });
    const large = await Daemon.start("", folder);
    const before = memoryOf(large.child.pid);
    const { context, page } = await logIn(browser, large);
    await page.goto(`${large.origin}/grid?run=run`);
    await page.locator("[role=slider].track").waitFor();
    await sleep(3000);
    const more = memoryOf(large.child.pid) - before;
    await context.close();
    await large.end("SIGTERM");
    return `${(more / 2 ** 20).toFixed(0)} MiB more`;
  });

  await row("ingest while a page scrubs", "≥ 97 % of its rate", () => ingestWhileScrubbing(browser));
}

/**
 * The rate of ingest while a page's requests come, as a share of the rate without them. On one machine a browser would
 * take the cores that ingest needs. So the requests of one page that scrubs are noted first, and come again, at the same
 * times, from a small client that yields to the daemon. With and without take turns.
 */
async function ingestWhileScrubbing(browser) {
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
  const ratio = (100 * percentile(watched, 50)) / percentile(alone, 50);
  return `${ratio.toFixed(0)} % (median of 3: ${percentile(alone, 50).toFixed(0)} and ${percentile(watched, 50).toFixed(0)} images/s; ${urls.length} requests in 5 s)`;
}

/** A picture of 128 x 128 x 3 as a NumPy file, different for each step. */
function photograph(step) {
  const side = 128;
  const header = `{'descr': '|u1', 'fortran_order': False, 'shape': (${side}, ${side}, 3), }`.padEnd(117) + "\n";
  const pixels = Buffer.alloc(side * side * 3);
  for (let at = 0; at < pixels.length; at++) pixels[at] = (at * 7 + step * 13 + (at >> 5)) & 255;
  return Buffer.concat([Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, 118, 0]), Buffer.from(header, "latin1"), pixels]);
}
