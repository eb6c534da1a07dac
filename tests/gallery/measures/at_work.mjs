// A daemon at work, with a page open and without.

import { cpSync, mkdirSync, watch } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Daemon, dump, tilesInPage } from "../daemon.mjs";
import { cpuOf, logIn, memoryOf, percentile, settled, temporaryFolder } from "../harness.mjs";
import { ingestWhileScrubbing } from "./scrubbing.mjs";

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
      // What was written before is settled then.
      await sleep(30_000);
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

  await row("ingest while a page scrubs", "≥ 97 % of its rate", async () => {
    const { percent, alone, watched, n_requests: n } = await ingestWhileScrubbing(browser);
    return `${percent.toFixed(0)} % (median of 3: ${alone.toFixed(0)} and ${watched.toFixed(0)} images/s; ${n} requests in 5 s)`;
  });
}
