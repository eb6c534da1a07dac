// The pages of an item and of a comparison, by mouse and keyboard: what they show is what NumPy and the API say.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import {
  axe,
  logIn,
  percentile,
  python,
  repo,
  safelight,
  settled,
  startBrowser,
  startGallery,
  temporaryFolder,
} from "./harness.mjs";

/** Of each key of the run `golden`: its dtype, its shape, and what NumPy prints for each value. */
let printed;
let browser;
let gallery;
before(async () => {
  const folder = temporaryFolder();
  const [runs, store] = [join(folder, "runs"), join(folder, "store")];
  const made = spawnSync(python, [join(repo, "tests/gallery/items.py"), runs], { encoding: "utf8", maxBuffer: 1e8 });
  assert.equal(made.status, 0, made.stderr);
  printed = JSON.parse(made.stdout);
  safelight("ingest", join(runs, "golden"), join(runs, "harbour"), "--store", store);
  gallery = await startGallery(store);
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await gallery?.stop();
});

/** A test with a page of its own, which must do nothing wrong. */
function pageTest(name, options, run) {
  test(name, async (context) => {
    const { page, faults, context: pages } = await logIn(browser, gallery, options);
    page.setDefaultTimeout(5000);
    await run(page, context);
    assert.deepEqual(faults, []);
    await pages.close();
  });
}

const place = (key, step, index = 0, run = "harbour") => ({ run, key, step: String(step), index: String(index) });
const query = (of) => new URLSearchParams(Object.entries(of).filter(([, value]) => value !== undefined)).toString();
const param = (page, name) => new URL(page.url()).searchParams.get(name);

async function open(page, path, of) {
  await page.goto(`${gallery.origin}${path}?${query(of)}`);
  await settled(page);
}

/** Waits until a check no longer throws. */
async function until(check, limit = 3000) {
  const end = Date.now() + limit;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) throw error;
      await sleep(30);
    }
  }
}

/** Compares a stage with a picture of the API, drawn as the address says. Returns how many pixels differ. */
function differing(page, url, stage = 0, [scale, x, y] = param(page, "z").split(",").map(Number)) {
  return page.evaluate(
    async ({ url, stage, scale, x, y }) => {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(`${url}: ${answer.status}: ${await answer.text()}`);
      const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
      const bitmap = await createImageBitmap(await answer.blob(), options);
      const canvas = document.querySelectorAll(".stage-canvas")[stage];
      const want = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
      // Pixels are squares from twice the size on.
      want.imageSmoothingEnabled = scale !== 1 && scale < 2;
      want.imageSmoothingQuality = "high";
      const [left, top] = [Math.round(canvas.width / 2 - x * scale), Math.round(canvas.height / 2 - y * scale)];
      const [right, bottom] = [Math.round(left + bitmap.width * scale), Math.round(top + bitmap.height * scale)];
      want.drawImage(bitmap, left, top, right - left, bottom - top);
      const all = [0, 0, canvas.width, canvas.height];
      const pixels = (context) => new Uint32Array(context.getImageData(...all).data.buffer);
      const [got, wanted] = [pixels(canvas.getContext("2d")), pixels(want)];
      if (!wanted.some((pixel) => pixel !== 0)) throw new Error("the picture is outside of the stage");
      return got.reduce((n, pixel, at) => n + (pixel === wanted[at] ? 0 : 1), 0);
    },
    { url, stage, scale, x, y },
  );
}

async function shows(page, address, stage) {
  await until(async () => {
    const url = typeof address === "function" ? address() : address;
    const n = await differing(page, url, stage);
    assert.equal(n, 0, `${n} pixels differ from ${url} at ${page.url()}`);
  });
}

/** A hash of all that a stage shows. */
const drawn = (page, selector = ".stage-canvas") =>
  page.evaluate((selector) => {
    const canvas = document.querySelector(selector);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Uint32Array(data.buffer).reduce((hash, pixel) => (Math.imul(hash, 31) + pixel) | 0, 7);
  }, selector);

/** Where the middle of a pixel is on the screen. */
async function onScreen(page, x, y, [scale, middleX, middleY] = param(page, "z").split(",").map(Number)) {
  const box = await page.locator(".stage").first().boundingBox();
  const corner = [box.width / 2 - middleX * scale, box.height / 2 - middleY * scale].map(Math.round);
  return [box.x + corner[0] + (x + 0.5) * scale, box.y + corner[1] + (y + 0.5) * scale];
}

/** Whether two texts are the same value: `1e+20` is `100000000000000000000`. */
function isSame(got, want, dtype) {
  if (/^(u?int|bool)/.test(dtype) || /nan|inf/.test(want)) return got === want;
  return got !== "" && Object.is(Number(got), Number(want));
}

pageTest("the loupe prints what NumPy prints, for every dtype", {}, async (page, context) => {
  const keys = Object.keys(printed).sort();
  assert.equal(new Set(keys.map((key) => printed[key].dtype)).size, 18);
  // How long after a move of the pointer the table changed.
  await page.addInitScript(() => {
    let moved = 0;
    globalThis.delays = [];
    addEventListener("pointermove", () => (moved = performance.now()), { capture: true });
    addEventListener("DOMContentLoaded", () => {
      const changed = () => {
        if (moved > 0) globalThis.delays.push(performance.now() - moved);
        moved = 0;
      };
      const seen = (changes) => changes.some(({ target }) => target.parentElement?.closest("#panel-loupe td"));
      new MutationObserver((changes) => seen(changes) && changed()).observe(document, {
        subtree: true,
        childList: true,
        characterData: true,
      });
    });
  });
  let n = 0;
  let zoom = [64, 2.5, 1.5];
  const wrong = [];
  for (const [at, key] of keys.entries()) {
    const { dtype, shape, texts } = printed[key];
    const [height, width, channels = 1] = shape;
    if (at === 0) await open(page, "/item", { ...place(key, 0, 0, "golden"), z: zoom.join() });
    else await page.keyboard.press("j");
    await page.getByRole("heading", { level: 1, name: key }).waitFor();
    const compare = async (x, y, how) => {
      const want = texts.slice((y * width + x) * channels, (y * width + x + 1) * channels);
      await until(async () => {
        const { place, got } = await page.evaluate(() => {
          const all = (selector) => [...document.querySelectorAll(`#panel-loupe ${selector}`)];
          const got = all("td:nth-of-type(1)").map(({ textContent }) => textContent);
          return { place: all(".coordinate input").map(({ value }) => value), got };
        });
        assert.deepEqual(place, [String(x), String(y)], how);
        const isRight = got.length === want.length && got.every((text, channel) => isSame(text, want[channel], dtype));
        assert.ok(isRight, `${key} at ${x}, ${y} by ${how}: got ${got}, NumPy prints ${want}`);
      }).catch((error) => wrong.push(error.message));
      n += want.length;
    };
    for (let pixel = 0; pixel < width * height; pixel++) {
      const [x, y] = [pixel % width, Math.floor(pixel / width)];
      if (pixel % 4 === 0) {
        await page.mouse.move(...(await onScreen(page, x, y, zoom)));
        await compare(x, y, "the pointer");
      } else if (pixel % 8 === 1) {
        const [fieldX, fieldY] = await page.locator("#panel-loupe .coordinate input").all();
        await fieldX.fill(String(x));
        await fieldY.fill(String(y));
        await fieldY.blur();
        // The fields move the view.
        zoom = [64, x + 0.5, y + 0.5];
        await compare(x, y, "the fields");
      }
    }
  }
  assert.deepEqual(wrong, []);
  const delays = await page.evaluate(() => globalThis.delays);
  context.diagnostic(`${n} values of ${keys.length} dumps`);
  context.diagnostic(`${delays.length} moves: 95 % within ${percentile(delays, 95).toFixed(1)} ms`);
  assert.ok(percentile(delays, 95) < 2000, "the loupe takes more than 2 s");
});

/** The colormaps of the stored pictures, which develop them too unless others are chosen. */
const COLORMAPS = { "val/depth": "turbo", "val/error": "rdbu", "grad/conv1": "viridis" };

/** The address of develop.png with the settings of the page's address. */
function developed(page, of) {
  const [low, high, gamma, colormap, channel, nan] = param(page, "dev").split(",");
  const given = { low, high, gamma, colormap: colormap || COLORMAPS[of.key], channel, nan: nan && `#${nan}` };
  return `/api/v1/develop.png?${query({ ...of, ...Object.fromEntries(Object.entries(given).filter(([, text]) => text)) })}`;
}

pageTest("a developed picture has the pixels of develop.png", {}, async (page) => {
  const panel = page.locator("#panel-develop");
  /** Changes a setting, and compares. */
  const change = async (of, what) => {
    const before = param(page, "dev");
    await what();
    await until(() => assert.notEqual(param(page, "dev"), before));
    // The address follows the last of several changes.
    await shows(page, () => developed(page, of));
  };
  const field = (name) => panel.getByLabel(name, { exact: true });
  const type = (name, text) => async () => {
    await field(name).fill(text);
    await field(name).press("Enter");
  };
  const depth = place("val/depth", 100);
  const show = "develop,no-marks";
  await open(page, "/item", { ...depth, z: "2,128,96", show });
  // As it is stored first.
  await shows(page, `/api/v1/develop.png?${query(depth)}`);
  await change(depth, type("low", "10"));
  await change(depth, type("high", "60.5"));
  await change(depth, () => panel.getByLabel("colormap").selectOption("viridis"));
  await change(depth, async () => {
    await panel.getByLabel("gamma").focus();
    for (let n = 0; n < 10; n++) await page.keyboard.press("ArrowRight");
  });
  await change(depth, () => panel.getByLabel("NaN color", { exact: true }).check());
  await change(depth, () => panel.getByLabel("Color of NaN").fill("#00ff80"));
  await change(depth, () => panel.getByRole("button", { name: "min–max" }).click());
  await change(depth, () => panel.getByRole("button", { name: "1–99 %" }).click());
  await panel.getByRole("button", { name: "as stored" }).click();
  await until(() => assert.equal(param(page, "dev"), null));
  await shows(page, `/api/v1/develop.png?${query(depth)}`);

  const photo = place("val/photo", 100, 1);
  await open(page, "/item", { ...photo, z: "1,256,192", show });
  await change(photo, type("low", "40"));
  await change(photo, type("high", "200"));
  await change(photo, () => panel.getByLabel("channel").selectOption("G"));
  await change(photo, () => panel.getByLabel("colormap").selectOption("magma"));

  for (const [of, z, dev] of [
    [place("debug/nan", 100), "4,32,24", "-1,2,,rdbu,,ffff00"],
    [place("debug/nan", 0), "4,32,24", "-3,0.5,0.4,,,"],
    [place("grad/conv1", 0), "4,48,32", "-0.0001,0.0002,2.2,turbo,,"],
    [place("val/error", 100), "1,256,192", "-0.1,0.2,1.5,cividis,,"],
    [place("val/recon", 0), "1,256,192", "0,128,0.5,,,"],
    [place("val/recon", 0), "1,256,192", "300,400,,,2,"],
    [place("safetensors-0.8/dtypes/float8_e5m2", 0, 0, "golden"), "64,2.5,1.5", "-1,1,,plasma,,00ff00"],
    [place("npz/big-endian/float64", 0, 0, "golden"), "64,2.5,1.5", "-0.5,0.5,1.3,purples,,"],
    [place("safetensors-0.8/dtypes/int64", 0, 0, "golden"), "64,2.5,1.5", "-9e18,9e18,,spectral,,"],
  ]) {
    // The numbers in the pixels of a small picture are the loupe's.
    await open(page, "/item", { ...of, z, dev, show: `${show},no-loupe` });
    await shows(page, developed(page, of));
  }
});

pageTest("the wheel zooms, dragging pans, and the address keeps the view", {}, async (page) => {
  const photo = place("val/photo", 100);
  await open(page, "/item", { ...photo, show: "no-overlays" });
  const zoom = () => param(page, "z")?.split(",").map(Number) ?? null;
  const changed = async (before) => {
    await until(() => assert.notDeepEqual(zoom(), before));
    await settled(page);
    return zoom();
  };
  const box = await page.locator(".stage").boundingBox();
  const middle = [box.x + box.width / 2, box.y + box.height / 2];
  const under = ([scale, x, y], [left, top]) => [x + (left - middle[0]) / scale, y + (top - middle[1]) / scale];
  // 1:1, by its button.
  await page.getByRole("button", { name: "1:1" }).click();
  assert.deepEqual(await changed(null), [1, 256, 192]);
  await shows(page, `/api/v1/develop.png?${query(photo)}`);
  // The wheel, about the pointer.
  const corner = [middle[0] + 120, middle[1] + 80];
  await page.mouse.move(...corner);
  const first = zoom();
  for (let n = 0; n < 6; n++) await page.mouse.wheel(0, -120);
  const near = await changed(first);
  assert.ok(near[0] > 2, `zoomed to ${near}`);
  for (const [axis, at] of under(near, corner).entries()) {
    assert.ok(Math.abs(at - under(first, corner)[axis]) < 1, `under the pointer: ${under(near, corner)}`);
  }
  // Sharp squares: each pixel is so many pixels of the screen.
  await shows(page, `/api/v1/develop.png?${query(photo)}`);
  // Dragging.
  await page.mouse.down();
  await page.mouse.move(corner[0] - 60, corner[1] - 90, { steps: 4 });
  await page.mouse.up();
  const dragged = await changed(near);
  assert.equal(dragged[0], near[0]);
  assert.ok(Math.abs(dragged[1] - near[1] - 60 / near[0]) < 0.01, `panned to ${dragged} from ${near}`);
  assert.ok(Math.abs(dragged[2] - near[2] - 90 / near[0]) < 0.01, `panned to ${dragged} from ${near}`);
  await shows(page, `/api/v1/develop.png?${query(photo)}`);
  // The wheel back, and a double click: all of it, then 1:1.
  for (let n = 0; n < 2; n++) await page.mouse.wheel(0, 120);
  assert.ok((await changed(dragged))[0] < dragged[0]);
  await page.mouse.dblclick(...middle);
  await until(() => assert.equal(zoom(), null));
  await page.mouse.dblclick(...middle);
  assert.equal((await changed(null))[0], 1);

  // What was chosen stays when the picture changes, and a reload shows it again.
  await open(page, "/item", { ...photo, z: "3,100,120", dev: "20,180,1.5,,", show: "no-overlays,no-marks" });
  const kept = () => ({ z: param(page, "z"), dev: param(page, "dev") });
  const before = kept();
  const shown = async (of) => {
    await until(() => assert.deepEqual(["key", "step", "index"].map((name) => param(page, name) ?? "0"), [of.key, of.step, of.index]));
    await settled(page);
    assert.deepEqual(kept(), before);
    await shows(page, developed(page, of));
  };
  await page.keyboard.press("ArrowLeft");
  await shown({ ...photo, step: "0" });
  await page.keyboard.press("]");
  await shown({ ...photo, step: "0", index: "1" });
  await page.keyboard.press("j");
  await shown(place("val/recon", 0));
  const picture = await drawn(page);
  await page.reload();
  await settled(page);
  await shown(place("val/recon", 0));
  assert.equal(await drawn(page), picture);
  await page.goBack();
  await shown({ ...photo, step: "0", index: "1" });
});

pageTest("overlays are drawn as the panel and the API say", {}, async (page) => {
  const photo = place("val/photo", 100);
  await open(page, "/item", { ...photo, z: "1,256,192" });
  const { layers } = await page.evaluate(async (url) => (await fetch(url)).json(), `/api/v1/item?${query(photo)}`);
  const layer = (kind, name) => page.getByRole("region", { name: `${kind} ${name}`, exact: true });
  const eye = (where, name) => where.getByRole("button", { name: `Show ${name}`, exact: true });
  /** The color of each edge of a box, by its class. */
  const boxes = () =>
    page.locator(".overlay-boxes .box > rect:not(.box-edge)").evaluateAll((all) =>
      all.map((rect) => [rect.textContent.split(" ")[0].replace(/\W+$/, ""), rect.style.stroke]),
    );
  const masks = () => page.locator(".overlay-mask").count();
  const countIs = (want) => until(async () => assert.deepEqual([(await boxes()).length, await masks()], want));
  await countIs([20, 2]);
  // Colors: of boxes, and of each pixel of a mask.
  const { classes } = layers[0];
  const colors = Object.fromEntries(Object.values(classes).map(({ name, color }) => [name, `rgb(${color.join(", ")})`]));
  for (const [name, color] of await boxes()) assert.equal(color, colors[name], name);
  assert.deepEqual(new Set((await boxes()).map(([name]) => name)), new Set(Object.keys(colors)));
  const inMask = await page.locator(".overlay-mask").first().evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const found = {};
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] > 0) found[data.slice(at, at + 3).join()] = (found[data.slice(at, at + 3).join()] ?? 0) + 1;
    }
    return found;
  });
  // A color of half opacity is rounded.
  const near = (text, color) => text.split(",").every((part, at) => Math.abs(part - color[at]) <= 1);
  const panel = await layer("mask", "ground_truth").locator("li").allInnerTexts();
  for (const [id, { name, color }] of Object.entries(classes)) {
    const [, n] = Object.entries(inMask).find(([text]) => near(text, color)) ?? [];
    const row = panel.find((text) => text.includes(name));
    assert.equal(row?.replace(/\D/g, ""), String(n), `pixels of class ${id} of the mask: ${JSON.stringify(inMask)}`);
  }
  assert.equal(Object.keys(inMask).length, 4);

  // The eye of a layer, solo, and those of a class.
  const predicted = layer("boxes", "predictions");
  await eye(predicted, "predictions").click();
  await countIs([13, 2]);
  await eye(predicted, "predictions").click({ modifiers: ["Alt"] });
  await countIs([7, 0]);
  await eye(predicted, "tree").click();
  await countIs([5, 0]);
  await eye(predicted, "boat").click({ modifiers: ["Alt"] });
  await countIs([3, 0]);
  assert.deepEqual(await boxes(), Array(3).fill(["boat", colors.boat]));
  await eye(predicted, "boat").click({ modifiers: ["Alt"] });
  await countIs([7, 0]);
  // A score, by keyboard: the boxes that are left have at least that score.
  const least = predicted.getByRole("slider", { name: /confidence/ });
  await least.focus();
  for (let n = 0; n < 5; n++) await page.keyboard.press("PageUp");
  const shownAt = Number(await least.inputValue());
  assert.ok(shownAt > 0.4, `the slider is at ${shownAt}`);
  const { box_data } = await page.evaluate(async (url) => (await fetch(url)).json(), `/api/v1/boxes?${query(photo)}&layer=predictions`);
  const kept = box_data.filter(({ scores }) => scores.confidence >= shownAt).length;
  assert.ok(kept > 0 && kept < 7, `${kept} boxes have a confidence of ${shownAt}`);
  await countIs([kept, 0]);
  await least.press("Home");
  await countIs([7, 0]);
  // Opacity.
  const opacity = predicted.getByRole("slider", { name: /opacity/ });
  await opacity.press("Home");
  await until(async () => assert.equal(await page.locator(".overlay-boxes").evaluate((svg) => svg.style.opacity), "0"));
  await eye(layer("mask", "predictions"), "predictions").click({ modifiers: ["Alt"] });
  await countIs([0, 1]);
  const before = await drawn(page, ".overlay-mask");
  await layer("mask", "predictions").getByRole("slider", { name: /opacity/ }).press("End");
  await until(async () => assert.notEqual(await drawn(page, ".overlay-mask"), before));
  // A reload shows the same, and `o` hides all.
  const masked = await drawn(page, ".overlay-mask");
  // The address follows the view after some rest, and when the page is left.
  await page.evaluate(() => dispatchEvent(new Event("pagehide")));
  await until(() => assert.match(param(page, "ov"), /"o":1/));
  await page.reload();
  await settled(page);
  await countIs([0, 1]);
  assert.equal(await drawn(page, ".overlay-mask"), masked);
  await page.keyboard.press("o");
  await countIs([0, 0]);
});

pageTest("marks show what is not finite, and n goes to it", {}, async (page) => {
  const nan = place("debug/nan", 100);
  await open(page, "/item", { ...nan, z: "8,32,24" });
  const marks = page.locator("#panel-marks");
  const { item } = await page.evaluate(async (url) => (await fetch(url)).json(), `/api/v1/item?${query(nan)}`);
  const count = async (name) => Number((await marks.locator("li", { hasText: name }).locator(".num").innerText()).replace(/\D/g, ""));
  assert.equal(await count("NaN"), item.stats.nan);
  assert.equal((await count("+Inf")) + (await count("−Inf")), item.stats.inf);
  const marked = await drawn(page);
  await page.keyboard.press("m");
  await until(async () => assert.notEqual(await drawn(page), marked));
  await shows(page, `/api/v1/develop.png?${query(nan)}`);
  await page.keyboard.press("m");
  await until(async () => assert.equal(await drawn(page), marked));
  const seen = new Set();
  for (let n = 0; n < 20; n++) {
    if (n % 2) await page.keyboard.press("n");
    else await page.getByRole("button", { name: "Next NaN" }).click();
    const at = await until(async () => {
      const place = await page.locator("#panel-loupe .coordinate input").evaluateAll((all) => all.map((one) => one.value).join());
      assert.ok(!seen.has(place), `${place} again`);
      return place;
    });
    seen.add(at);
    assert.match(await page.locator("#panel-loupe td").first().innerText(), /^(nan|-?inf)$/);
    // It is in the middle of the view.
    const [x, y] = at.split(",").map(Number);
    await until(() => assert.deepEqual(param(page, "z").split(",").slice(1).map(Number), [x + 0.5, y + 0.5]));
  }
  // A picture without any has none until they are asked for.
  await open(page, "/item", place("val/photo", 100));
  assert.equal(await page.locator("#panel-marks").count(), 0);
});

test("held and rejected items say why", async () => {
  const { page, faults, context } = await logIn(browser, gallery);
  const held = place("val/all", 100, 108);
  await open(page, "/item", { ...held, z: "8,12,12", show: "no-loupe" });
  assert.match(await page.locator(".note.is-held").innerText(), /max_items.*108 images/);
  assert.match(await page.locator(".note.is-held code").innerText(), /^safelight release harbour val\/all --step 100 --store /);
  await shows(page, `/api/v1/develop.png?${query(held)}`);
  // Its pixels are those of content.py.
  const expected = [128 + 127 * Math.sin(108 / 7), 128 + 127 * Math.cos(108 / 7), (108 * 37) % 256].map(Math.trunc);
  await page.keyboard.press("v");
  await page.mouse.move(...(await onScreen(page, 0, 0)));
  await until(async () => {
    const got = await page.locator("#panel-loupe td:nth-of-type(1)").allInnerTexts();
    assert.deepEqual(got, expected.map(String));
  });
  assert.deepEqual(faults, []);
  await open(page, "/item", place("val/photo", 100, 3));
  assert.match(await page.locator(".stage-note").innerText(), /Rejected\s+"tensors\/none.txt" is missing/);
  assert.match(await page.locator(".note.is-rejected").innerText(), /will be tried again/);
  await open(page, "/item", place("val/wide", 100));
  assert.match(await page.locator("main").innerText(), /no item 0 of key "val\/wide" at step 100/);
  // Nothing but the answers for what is not there.
  assert.deepEqual(faults.filter((fault) => !/status of 404/.test(fault)), []);
  await context.close();
});

pageTest("an item's texts are copied and its files are served", { permissions: ["clipboard-read", "clipboard-write"] }, async (page) => {
  const depth = place("val/depth", 100);
  await open(page, "/item", { ...depth, show: "no-marks" });
  const details = await page.evaluate(async (url) => (await fetch(url)).json(), `/api/v1/item?${query(depth)}`);
  assert.match(details.python, /^np\.load\(/);
  for (const [title, want] of [
    ["Path", details.file],
    ["Command line", details.show],
    ["Python", details.python],
    ["wandb.log", details.wandb],
    ["Link", page.url()],
  ]) {
    await page.getByRole("button", { name: "Copy", exact: true }).click();
    // The menu has taken the focus.
    await page.locator(".menu-choice:focus").waitFor();
    await page.locator(".menu-choice", { hasText: new RegExp(`^${title}`) }).press("Enter");
    await page.locator(".toast", { hasText: `${title} copied` }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), want);
  }
  // The picture as it is shown.
  await page.getByRole("button", { name: "Copy", exact: true }).click();
  await page.locator(".menu-choice", { hasText: "as it is shown" }).click();
  await page.locator(".toast", { hasText: "Picture copied" }).waitFor();
  const same = await page.evaluate(async (url) => {
    const [copied] = await navigator.clipboard.read();
    const pixels = async (blob) => {
      const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
      const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
      context.drawImage(bitmap, 0, 0);
      return context.getImageData(0, 0, bitmap.width, bitmap.height).data.join();
    };
    return (await pixels(await copied.getType("image/png"))) === (await pixels(await (await fetch(url)).blob()));
  }, `/api/v1/develop.png?${query(depth)}`);
  assert.ok(same, "the copied picture has other pixels");
  // Downloads: what the links lead to.
  await page.getByRole("button", { name: "Download", exact: true }).click();
  const links = await page.locator(".menu-list a").evaluateAll((all) => all.map((link) => [link.innerText.split("\n")[0], link.href, link.download]));
  const types = { Original: "image/png", Developed: "image/png", Values: "application/octet-stream", "All of this step": "application/x-tar" };
  assert.deepEqual(links.map(([title]) => title), Object.keys(types));
  for (const [title, href, name] of links) {
    const got = await page.evaluate(async (url) => {
      const answer = await fetch(url);
      const body = new Uint8Array(await answer.arrayBuffer());
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
      const sha256 = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      return { status: answer.status, type: answer.headers.get("content-type"), size: body.length, sha256, head: [...body.slice(0, 6)] };
    }, href);
    assert.equal(got.status, 200, title);
    assert.equal(got.type, types[title], title);
    assert.match(name, /^val_depth_100_0\./);
    if (title === "Original") assert.equal(got.sha256, details.item.sha256);
    if (title === "Values") assert.deepEqual(got.head, [0x93, ..."NUMPY"].map((one) => (typeof one === "string" ? one.charCodeAt(0) : one)));
  }
  // What is not developed is downloaded as it is stored.
  const [, developedLink] = links[1];
  await page.keyboard.press("Escape");
  await page.keyboard.press("1");
  await until(() => assert.ok(param(page, "z")));
  await shows(page, new URL(developedLink).pathname + new URL(developedLink).search);
});

pageTest("the theme changes no pixel of a picture", { colorScheme: "light" }, async (page) => {
  const pictures = [place("logo", 100), place("debug/nan", 100), place("val/depth", 100)];
  for (const of of pictures) {
    await open(page, "/item", { ...of, show: "develop" });
    const seen = new Set();
    const grounds = new Set();
    for (let n = 0; n < 3; n++) {
      seen.add(await drawn(page));
      grounds.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
      await page.keyboard.press("t");
      await settled(page);
    }
    assert.equal(seen.size, 1, `${of.key} is drawn in ${seen.size} ways`);
    assert.equal(grounds.size, 2, "the theme did not change");
  }
});

// Small ones: a daemon that was not built for speed takes seconds to compare photographs.
const REFERENCE = place("val/all", 100, 0);
const OTHERS = [place("val/all", 100, 3), place("val/all", 100, 7), place("debug/nan", 100), place("val/all", 100, 9)];

/** Opens the comparison of the reference with the others. */
async function compare(page, more = {}, others = OTHERS) {
  const asked = new URLSearchParams({ a: query(REFERENCE), ...more });
  for (const other of others) asked.append("b", query(other));
  await page.goto(`${gallery.origin}/compare?${asked}`);
  await settled(page);
}

const png = (of) => `/api/v1/develop.png?${query(of)}`;

pageTest("pictures are compared side by side, by swipe, by flicker and by map", {}, async (page) => {
  // At this scale the loupe frames no pixel.
  const z = "4,12,12";
  await compare(page, { z: "2,10,13" });
  // Side by side: all show the same part, and zoom together.
  assert.equal(await page.locator(".stage").count(), 5);
  const linked = ([scale, x, y], [width, height]) => [(scale * 24) / width, (x * width) / 24, (y * height) / 24];
  const together = async () => {
    const zoom = param(page, "z").split(",").map(Number);
    for (const [at, of] of [REFERENCE, ...OTHERS].entries()) {
      const own = linked(zoom, of.key === "debug/nan" ? [64, 48] : [24, 24]);
      await until(async () => assert.equal(await differing(page, png(of), at, own), 0, `${of.key} at ${own}`));
    }
  };
  await together();
  const box = await page.locator(".stage").nth(1).boundingBox();
  await page.mouse.move(box.x + box.width / 2 + 30, box.y + box.height / 2);
  for (let n = 0; n < 3; n++) await page.mouse.wheel(0, -150);
  await until(() => assert.ok(Number(param(page, "z").split(",")[0]) > 3));
  await settled(page);
  await together();
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 - 10, box.y + box.height / 2 + 25, { steps: 3 });
  await page.mouse.up();
  await settled(page);
  await together();

  // Digits choose what is compared with A.
  const figures = page.locator(".panel", { has: page.getByRole("heading", { name: "Figures" }) });
  for (const [digit, key] of [["2", "]"], ["4", "["]]) {
    await page.keyboard.press(digit);
    await figures.getByText(`${digit} against A`).waitFor();
    await page.keyboard.press(key);
    await figures.getByText("3 against A").waitFor();
  }
  // Other sizes: no figures, and the reason.
  const refused = await page.evaluate(async (url) => (await fetch(url)).json(), `/api/v1/compare?${query({ a: query(REFERENCE), b: query(OTHERS[2]) })}`);
  assert.ok(refused.reason);
  await figures.getByText(refused.reason).waitFor();
  assert.equal(await figures.locator("td").count(), 0);
  // The figures are those of the API.
  await page.keyboard.press("1");
  await figures.locator("td").first().waitFor();
  const pair = { a: query(REFERENCE), b: query(OTHERS[0]) };
  const want = await page.evaluate(async (url) => (await fetch(url)).json(), `/api/v1/compare?${query(pair)}`);
  const rows = await figures.locator("tbody tr").evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => cell.innerText)));
  const all = [want.whole, ...want.channels];
  const digits = (value) => String(Number(value.toPrecision(4)));
  assert.deepEqual(rows, [
    ["MSE", ...all.map(({ mse }) => digits(mse))],
    ["MAE", ...all.map(({ mae }) => digits(mae))],
    ["max |d|", ...all.map(({ max }) => digits(max))],
    ["PSNR, dB", ...all.map(({ psnr }) => digits(psnr))],
    ["SSIM", ...all.map(({ ssim }) => digits(ssim))],
  ]);
  // The loupe shows the difference of the values.
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.locator("#panel-loupe td").first().filter({ hasText: /\d/ }).waitFor();
  for (const cellsOf of await page.locator("#panel-loupe tbody tr").evaluateAll((all) => all.map((row) => [...row.cells].slice(1).map((cell) => Number(cell.innerText))))) {
    assert.equal(cellsOf[2], cellsOf[1] - cellsOf[0]);
  }

  // Swipe, by keyboard: A on the left of the line.
  await compare(page, { z, way: "swipe" });
  await shows(page, png(REFERENCE), 0);
  await shows(page, png(OTHERS[0]), 1);
  const line = page.getByRole("slider", { name: "Line between A and 1" });
  const left = () => page.locator(".swipe").evaluate((swipe) => Number(/ ([\d.]+)%\)$/.exec(getComputedStyle(swipe).clipPath)[1]));
  assert.equal(await left(), 50);
  await line.press("End");
  await until(async () => assert.equal(await left(), 100));
  await line.press("Home");
  await until(async () => assert.equal(await left(), 0));
  for (let n = 0; n < 4; n++) await line.press("ArrowRight");
  await until(async () => assert.equal(await left(), 2));

  // Flicker: the other picture as long as Space is held.
  await compare(page, { z, way: "flicker" });
  await shows(page, png(REFERENCE));
  await page.keyboard.down("Space");
  await shows(page, png(OTHERS[0]));
  await page.keyboard.up("Space");
  await shows(page, png(REFERENCE));
  await page.keyboard.press("2");
  await page.keyboard.down("Space");
  await shows(page, png(OTHERS[1]));
  await page.keyboard.up("Space");
  await shows(page, png(REFERENCE));

  // Each kind of map, as the API makes it.
  await compare(page, { z, way: "map" });
  const whole = want.whole;
  const settings = page.locator(".panel", { has: page.getByRole("heading", { name: "Difference map" }) });
  for (const [kind, low, high, colormap] of [
    ["absolute", 0, whole.max, "inferno"],
    ["signed", -whole.max, whole.max, "rdbu"],
    ["relative", 0, 1, "inferno"],
    ["squared", 0, whole.max ** 2, "inferno"],
    ["ssim", 0, 1, "viridis"],
  ]) {
    await settings.getByLabel("kind").selectOption(kind);
    await shows(page, `/api/v1/compare.png?${query({ ...pair, kind, low, high, colormap })}`);
  }
  await settings.getByLabel("kind").selectOption("absolute");
  await settings.getByLabel("high").fill("40");
  await settings.getByLabel("high").press("Enter");
  await settings.getByLabel("colormap").selectOption("magma");
  await shows(page, `/api/v1/compare.png?${query({ ...pair, kind: "absolute", low: 0, high: 40, colormap: "magma" })}`);
  // Escape leaves the field, so that a digit is a shortcut again.
  await settings.getByLabel("high").press("Escape");
  await page.keyboard.press("3");
  await page.locator(".stage-note", { hasText: refused.reason }).waitFor();
});

for (const colorScheme of ["light", "dark"]) {
  pageTest(`axe finds nothing on the compare page, ${colorScheme}`, { colorScheme }, async (page) => {
    for (const way of ["side", "swipe", "flicker", "map"]) {
      await compare(page, { way });
      assert.deepEqual(await axe(page), [], way);
    }
    await compare(page, { index: "2" });
    assert.deepEqual(await axe(page), [], "other sizes");
    await compare(page, {}, []);
    assert.deepEqual(await axe(page), [], "nothing to compare with");
  });
}
