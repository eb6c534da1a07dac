// What the tests of the gallery share: stores, a gallery at work, and a browser that reports whatever a page does wrong.
//
// A test opens its pages with `newPage`. When it closes them, the page must have had no error, must have asked nothing
// of any other machine, and must not have broken its content security policy.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
export const repo = dirname(dirname(here));
export const program = process.env.SAFELIGHT_PROGRAM ?? join(repo, "target/debug/safelight");
export const python = process.env.SAFELIGHT_PYTHON ?? "python3";
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const temporary = [];
process.on("exit", () => {
  for (const folder of temporary) rmSync(folder, { recursive: true, force: true });
});

/** A folder that is removed when the process ends. */
export function temporaryFolder() {
  const folder = mkdtempSync(join(tmpdir(), "safelight-gallery-"));
  temporary.push(folder);
  return folder;
}

/** Runs the program to its end. Returns what it printed. */
export function safelight(...args) {
  const done = spawnSync(program, args, { encoding: "utf8" });
  // 3: done, but something was rejected.
  assert.ok([0, 3].includes(done.status), `safelight ${args.join(" ")}: ${done.status}\n${done.stderr}`);
  return done.stdout;
}

/** Makes the store of the digits run. */
export function digitsStore(folder = temporaryFolder()) {
  const store = join(folder, "store");
  safelight("ingest", join(repo, "examples/digits/run"), "--store", store);
  return store;
}

/** Makes the store of content.py: photographs with boxes and masks, depth maps with NaN, 512 held images. */
export function contentStore(folder = temporaryFolder()) {
  const made = spawnSync(python, [join(here, "content.py"), join(folder, "runs")], { encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
  const runs = readdirSync(join(folder, "runs")).map((name) => join(folder, "runs", name));
  const store = join(folder, "store");
  safelight("ingest", ...runs, "--store", store);
  return store;
}

/** Makes a large store of tests/measure/made_stores.py, once, in target/gallery. */
export function madeStore(kind) {
  const folder = join(repo, "target/gallery", kind);
  const store = join(folder, "store");
  if (!existsSync(join(folder, "whole"))) {
    rmSync(folder, { recursive: true, force: true });
    const script = join(repo, "tests/measure/made_stores.py");
    const env = { ...process.env, SAFELIGHT_PROGRAM: program };
    const made = spawnSync(python, [script, kind, folder], { encoding: "utf8", env });
    assert.equal(made.status, 0, made.stderr);
    writeFileSync(join(folder, "whole"), "");
  }
  return store;
}

/** Starts `safelight gallery` on a store. Returns its login address and a function that stops it. */
export async function startGallery(store, ...more) {
  const child = spawn(program, ["gallery", "--store", store, "--listen", "127.0.0.1:0", ...more], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  const login = await new Promise((resolve, reject) => {
    const see = (bytes) => {
      printed += bytes;
      const found = /http:\/\/[\w.]+:\d+\/\?login=[\w-]+/.exec(printed);
      if (found) {
        resolve(found[0]);
      }
    };
    child.stdout.on("data", see);
    child.stderr.on("data", see);
    child.on("exit", (code) => reject(new Error(`safelight gallery ended with ${code}: ${printed}`)));
    setTimeout(() => reject(new Error(`no address within 20 s: ${printed}`)), 20_000).unref();
  });
  const stop = () =>
    new Promise((resolve) => {
      child.removeAllListeners("exit");
      child.on("exit", resolve);
      child.kill("SIGTERM");
    });
  return { login, origin: new URL(login).origin, stop, child };
}

/** Starts the browser. */
export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.SAFELIGHT_CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** Opens a browser's own set of pages, logged in. `faults` lists what its pages did wrong. */
export async function logIn(browser, gallery, options = {}) {
  const { storageState } = gallery;
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, storageState, ...options });
  const faults = [];
  context.on("page", (page) => {
    watchRequests(page);
    page.on("pageerror", (error) => faults.push(`error: ${error}`));
    page.on("console", (message) => {
      const { url } = message.location();
      // Chromium reports each answer that is an error. Tests that cause one remove it.
      if (message.type() === "error") {
        faults.push(`console: ${message.text()} ${url}`);
      }
    });
    page.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (!["blob:", "data:"].includes(protocol) && origin !== gallery.origin) {
        faults.push(`foreign request: ${request.url()}`);
      }
    });
  });
  const page = await context.newPage();
  // The address logs in once. Later sets of pages get its cookie.
  await page.goto(storageState ? gallery.origin : gallery.login);
  await page.waitForURL((url) => !url.search.includes("login"));
  gallery.storageState ??= await context.storageState();
  return { context, page, faults };
}

/** Runs axe on a page. Returns what it found, in words. */
export async function axe(page) {
  // As text into the page's own world would break its content security policy; this is the debugger's.
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map((node) => `${id}: ${help}: ${node.target.join(" ")}: ${node.failureSummary ?? ""}`),
  );
}

/** What each page waits for. */
const waiting = new WeakMap();

/** Counts the requests that a page waits for. The stream of events never ends, and does not count. */
export function watchRequests(page) {
  const state = { requests: new Set(), changed: Date.now() };
  waiting.set(page, state);
  page.on("request", (request) => {
    if (request.url().endsWith("/api/v1/events")) return;
    state.requests.add(request);
    state.changed = Date.now();
  });
  for (const end of ["requestfinished", "requestfailed"]) {
    page.on(end, (request) => {
      state.requests.delete(request);
      state.changed = Date.now();
    });
  }
}

/** Waits until a page has loaded what it shows: it has asked for nothing for a while. */
export async function settled(page) {
  await page.waitForLoadState("load");
  const end = Date.now() + 20_000;
  const state = waiting.get(page);
  while (state.requests.size > 0 || Date.now() - state.changed < 250) {
    const left = [...state.requests].map((request) => request.url());
    assert.ok(Date.now() < end, `the page still waits for ${left.join(", ")}`);
    await new Promise((next) => setTimeout(next, 20));
  }
  await page.evaluate(() => new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next))));
}

/** Logs in without a browser. Returns a `fetch` that sends the cookie. */
export async function logInWithoutBrowser(gallery) {
  const answer = await fetch(gallery.login, { redirect: "manual" });
  const cookie = answer.headers.getSetCookie()[0]?.split(";")[0];
  assert.ok(cookie, `no cookie from ${gallery.login}: ${answer.status}`);
  return async (path) => {
    const got = await fetch(gallery.origin + path, { headers: { cookie } });
    assert.ok(got.ok, `${path}: ${got.status} ${got.ok ? "" : await got.clone().text()}`);
    return got;
  };
}

/** The memory of a process that belongs to it alone, in bytes. */
export function memoryOf(pid) {
  const [, kilobytes] = /RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(kilobytes) * 1024;
}

/** The CPU time of a process so far, in seconds. */
export function cpuOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  // utime and stime, in ticks of 1/100 s.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The value that so many per cent of all values do not exceed. */
export function percentile(values, percent) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * percent) / 100) - 1)];
}
