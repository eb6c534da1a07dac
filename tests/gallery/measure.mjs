// Measures the gallery and writes the table of docs/gallery.md, each figure beside its goal.
//
//   ./test.sh gallery measure [--minutes 10] [--only WORDS]
//
// With `--only`, it measures the rows whose names have these words, and the others of the table stay.
//
// The stores are made once, in target/gallery: a million pictures of 28 x 28, and 6 keys of 10,000 photographs of
// 512 x 512 (100 different ones a key). The browser runs on the same machine as the gallery, and takes part of its
// cores.

import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { madeStore, repo, startBrowser } from "./harness.mjs";
import { atWork } from "./measures/at_work.mjs";
import { inBrowser } from "./measures/in_browser.mjs";
import { large } from "./measures/large.mjs";
import { overHttp } from "./measures/over_http.mjs";

const { values: options } = parseArgs({
  options: { minutes: { type: "string", default: "10" }, only: { type: "string" } },
});

const rows = [];

/** Notes a figure. A figure that cannot be had is an error: it stands in the table as such. */
async function row(what, goal, measure) {
  if (options.only && !what.includes(options.only)) return;
  let got;
  try {
    got = await measure();
  } catch (error) {
    got = `failed: ${String(error.message ?? error).split("\n")[0]}`;
  }
  rows.push([what, goal, got]);
  console.log(`${what}: ${got}   (goal: ${goal}; load ${loadavg()[0].toFixed(1)})`);
}

const stores = { digits: madeStore("digits"), photographs: madeStore("photographs") };
const browser = await startBrowser();
try {
  await overHttp(row, stores);
  await large(row);
  await inBrowser(row, stores, browser, Number(options.minutes));
  await atWork(row, stores, browser);
} finally {
  await browser.close();
}

const page = join(repo, "docs/gallery.md");
const [before, after] = ["<!-- measured -->\n", "<!-- end of measured -->"];
const text = readFileSync(page, "utf8");
const [from, to] = [text.indexOf(before) + before.length, text.indexOf(after)];
if (from < before.length || to < from) throw new Error(`${page} has no place for the table`);
const lines = new Map(rows.map((cells) => [cells[0], `| ${cells.join(" | ")} |\n`]));
if (options.only) {
  // Rows that were not measured now stay, and so does the date of the whole table.
  const table = text.slice(from, to).replaceAll(/^\| (.+?) \| .*\n/gm, (line, what) => lines.get(what) ?? line);
  writeFileSync(page, text.slice(0, from) + table + text.slice(to));
} else {
  const version = (await browser.version?.()) ?? "";
  const head =
    `Measured on ${new Date().toISOString().slice(0, 10)} with ${availableParallelism()} cores and Chromium ${version},` +
    " which ran on the same machine. Written by\n`./test.sh gallery measure`.\n\n| what | goal | measured |\n| --- | --- | --- |\n";
  writeFileSync(page, `${text.slice(0, from)}\n${head}${[...lines.values()].join("")}\n${text.slice(to)}`);
}
