// What the HTTP API alone costs, without a browser.

import { logInWithoutBrowser, memoryOf, percentile, startGallery } from "../harness.mjs";

export async function overHttp(row, stores) {
  const gallery = await startGallery(stores.digits);
  const get = await logInWithoutBrowser(gallery);
  const before = memoryOf(gallery.child.pid);
  await row("first catalogue of 10⁶ items", "≤ 1.5 s", async () => {
    const start = performance.now();
    const keys = await (await get("/api/v1/keys?run=run")).json();
    const took = performance.now() - start;
    if (keys.length !== 10 || keys[0].image !== 100_000) throw new Error(`got ${JSON.stringify(keys)}`);
    return `${(took / 1000).toFixed(2)} s`;
  });
  await row("`/at` after that, p99", "≤ 20 ms", async () => {
    const took = [];
    for (let n = 0; n < 500; n++) {
      const step = (n * 7919) % 100_000;
      const start = performance.now();
      const { cells } = await (await get(`/api/v1/at?run=run&step=${step}`)).json();
      took.push(performance.now() - start);
      if (cells.length !== 10 || cells[0].step !== step) throw new Error(`step ${step}: ${JSON.stringify(cells[0])}`);
    }
    return `${percentile(took, 99).toFixed(1)} ms`;
  });
  await row("search", "≥ 50,000 items/s", async () => {
    const start = performance.now();
    let [cursor, looked, of] = ["", 0, 0];
    do {
      const more = cursor ? `&cursor=${cursor}` : "";
      const answer = await (await get(`/api/v1/items?run=run&where=${encodeURIComponent("nan>0")}${more}`)).json();
      if (answer.items.length > 0) throw new Error("found what is not there");
      [cursor, looked, of] = [answer.next, answer.looked_at, answer.of];
    } while (cursor);
    if (looked !== 1_000_000 || of !== 1_000_000) throw new Error(`looked at ${looked} of ${of}`);
    return `${Math.round(looked / ((performance.now() - start) / 1000)).toLocaleString("en")} items/s`;
  });
  await row("memory of the gallery with 10⁶ items in its catalogue", "≤ 32 MiB more", async () => {
    const more = memoryOf(gallery.child.pid) - before;
    return `${(more / 2 ** 20).toFixed(0)} MiB more than at its start`;
  });
  await gallery.stop();
}
