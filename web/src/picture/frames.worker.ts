// Fetches thumbnails, keeps their bytes, and decodes those that the page wants to draw.

import type { FrameHead, StepNumber } from "../state/api.types";
import { compareSteps } from "../state/steps";
import { withoutExif } from "./exif";
import { FrameParser } from "./framing";
import { fromStore, toStore } from "./stored";
import { type Batch, batches, distance } from "./wishes";

/** What the page wants of one cell. */
export interface Spot {
  name: string;
  run: string;
  key: string;
  index: number;
  /** The steps to draw. */
  targets: StepNumber[];
  /** The digest of the first target's picture, if the page knows it. */
  sha20: string | null;
  /** The address of the first target's whole picture, if a thumbnail is too small for its tile. */
  full: string | null;
  /** Whether a near step will do until a target is there. */
  isNearEnough: boolean;
  /** Steps to fetch ahead, the most useful ones first. */
  ahead: StepNumber[];
}

/** What the page tells. */
export type ToWorker =
  | { what: "aim"; size: number; spots: Spot[]; isResting: boolean; side: number }
  | { what: "changed"; run: string; key: string };

/** A picture that can be drawn; `bitmap` is null if there is none at the step, such as of a held item. */
export interface Decoded {
  name: string;
  size: number;
  step: StepNumber;
  bitmap: ImageBitmap | null;
  width: number;
  height: number;
}

/** What the worker tells. */
export type FromWorker =
  | { what: "frame"; frame: Decoded }
  | { what: "drop"; frames: Pick<Decoded, "name" | "size" | "step">[] }
  | { what: "failed"; detail: string };

interface Kept {
  step: StepNumber;
  head: FrameHead | null;
  bytes: Uint8Array<ArrayBuffer>;
}

/** Stands for the whole picture where else there is the size of a thumbnail. */
export const FULL = 0;
/** Encoded pictures in memory. */
const BYTES_MAX = 48 * 1024 * 1024;
/** Decoded pictures that the page holds. */
const PIXELS_MAX = 64 * 1024 * 1024;
/** Bytes fetched ahead of one aim. */
const AHEAD_MAX = 8 * 1024 * 1024;
/** An answer this long may have ended early: the gallery sends 4 MiB, and no thumbnail is as long as the difference. */
const FULL_ANSWER = 3 * 1024 * 1024;
/** Requests under way while the cursor rests, and while it moves: then each is worth its time, as it ends near it. */
const REQUESTS_MAX = 4;
const MOVING_MAX = 2;
const DECODES_MAX = 4;

const worker = self as unknown as {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  addEventListener(name: "message", listener: (event: MessageEvent<ToWorker>) => void): void;
};

let aim: Omit<Extract<ToWorker, { what: "aim" }>, "what"> = {
  size: 128,
  spots: [],
  isResting: true,
  side: 0,
};
/** Where the next requests begin while the cursor moves, so that each cell has its turn. */
let turn = 0;
/** Counts aims. */
let serial = 0;
/** Counts what may change which pictures are the best ones: aims, and pictures that come. */
let news = 0;
let aheadBytes = 0;
/** By cell and size, then by step. */
const cells = new Map<string, Map<StepNumber, Kept>>();
/** The same in the order of their last use. */
const uses = new Map<string, { cell: string; step: StepNumber; size: number }>();
let bytesKept = 0;
/** What the page holds, in the order of their last use. */
const sent = new Map<string, { name: string; size: number; step: StepNumber; bytes: number }>();
let pixelsSent = 0;
const underWay = new Set<Batch>();
/** The digests for which another picture was forgotten. */
const replaced = new Set<string>();
/** Stops the request for a whole picture. */
let fullAbort = new AbortController();
/** What was asked for once and did not come. */
const missed = new Set<string>();
let failures = 0;

worker.addEventListener("message", ({ data }) => {
  if (data.what === "changed") {
    forgetNothing(data.run, data.key);
    return;
  }
  aim = data;
  serial++;
  news++;
  aheadBytes = 0;
  abortStale();
  fullAbort.abort();
  void decode();
  void fetchMore();
});

const cellOf = (name: string, size: number) => `${size} ${name}`;
const useOf = (cell: string, step: StepNumber) => `${step} ${cell}`;

function kept(name: string, size: number, step: StepNumber): Kept | undefined {
  return cells.get(cellOf(name, size))?.get(step);
}

function keep(name: string, size: number, one: Kept): void {
  const cell = cellOf(name, size);
  let steps = cells.get(cell);
  if (!steps) {
    steps = new Map();
    cells.set(cell, steps);
  }
  const use = useOf(cell, one.step);
  bytesKept += one.bytes.length - (uses.get(use)?.size ?? 0);
  steps.set(one.step, one);
  uses.delete(use);
  uses.set(use, { cell, step: one.step, size: one.bytes.length });
  for (const [oldest, { cell: of, step, size: bytes }] of uses) {
    if (bytesKept <= BYTES_MAX) break;
    uses.delete(oldest);
    cells.get(of)?.delete(step);
    bytesKept -= bytes;
  }
}

/** Asks again for pictures of a key that were not there. */
function forgetNothing(run: string, key: string): void {
  for (const [cell, steps] of cells) {
    const [of, ofKey] = JSON.parse(cell.slice(cell.indexOf(" ") + 1)) as [string, string];
    if (of !== run || ofKey !== key) continue;
    for (const [step, one] of steps) if (one.bytes.length === 0) steps.delete(step);
  }
}

// Decoding.

let isDecoding = false;

async function decode(): Promise<void> {
  if (isDecoding) return;
  isDecoding = true;
  for (let at = -1; at !== news; ) {
    at = news;
    const { size, spots } = aim;
    const wanted = spots.flatMap((spot) => best(spot, size).map((one) => ({ spot, one })));
    for (let i = 0; i < wanted.length && at === news; i += DECODES_MAX) {
      await Promise.all(wanted.slice(i, i + DECODES_MAX).map(({ spot, one }) => send(spot, size, one)));
    }
  }
  isDecoding = false;
}

/** Of each target, its picture, or else the one nearest to it. */
function best(spot: Spot, size: number): Kept[] {
  const steps = cells.get(cellOf(spot.name, size));
  if (!steps) return [];
  const found: Kept[] = [];
  for (const target of spot.targets) {
    let one = steps.get(target);
    if (!one && spot.isNearEnough) {
      for (const other of steps.values()) {
        if (other.bytes.length === 0) continue;
        if (!one || distance(other.step, target) < distance(one.step, target)) one = other;
      }
    }
    if (one) found.push(one);
  }
  return found;
}

async function send(spot: Spot, size: number, one: Kept): Promise<void> {
  const id = useOf(cellOf(spot.name, size), one.step);
  const before = sent.get(id);
  if (before) {
    sent.delete(id);
    sent.set(id, before);
    return;
  }
  let bitmap: ImageBitmap | null = null;
  sent.set(id, { name: spot.name, size, step: one.step, bytes: 0 });
  if (one.head && one.bytes.length > 0) {
    try {
      bitmap = await createImageBitmap(new Blob(withoutExif(one.bytes), { type: one.head.type }));
    } catch {
      // Bytes that are no picture are shown as no picture.
    }
  }
  const bytes = bitmap ? bitmap.width * bitmap.height * 4 : 0;
  pixelsSent += bytes;
  sent.delete(id);
  sent.set(id, { name: spot.name, size, step: one.step, bytes });
  const frame: Decoded = {
    name: spot.name,
    size,
    step: one.step,
    bitmap,
    width: one.head?.width ?? 0,
    height: one.head?.height ?? 0,
  };
  worker.postMessage({ what: "frame", frame }, bitmap ? [bitmap] : []);
  dropOldest();
}

function dropOldest(): void {
  const frames: Pick<Decoded, "name" | "size" | "step">[] = [];
  for (const [id, { name, size, step, bytes }] of sent) {
    if (pixelsSent <= PIXELS_MAX) break;
    sent.delete(id);
    pixelsSent -= bytes;
    frames.push({ name, size, step });
  }
  if (frames.length > 0) worker.postMessage({ what: "drop", frames });
}

// Fetching.

async function fetchMore(): Promise<void> {
  const at = serial;
  await takeStored();
  if (at !== serial) return;
  const { size, spots, isResting } = aim;
  const isAsked = (spot: Spot, step: StepNumber) =>
    [...underWay].some((batch) => batch.size === size && batch.has(spot, step));
  const isMissing = (spot: Spot, step: StepNumber) => !kept(spot.name, size, step) && !isAsked(spot, step);
  const targets = batches(spots, size, (spot) => spot.targets.filter((step) => isMissing(spot, step)));
  const max = isResting ? REQUESTS_MAX : MOVING_MAX;
  const begin = isResting ? 0 : turn % Math.max(1, targets.length);
  for (const batch of [...targets.slice(begin), ...targets.slice(0, begin)]) {
    if (underWay.size >= max) return;
    turn++;
    void load(batch, false);
  }
  // Only what is on the screen, while that is on its way.
  if (underWay.size > 0) return;
  await loadFull();
  if (at !== serial || underWay.size > 0 || aheadBytes > AHEAD_MAX) return;
  const ahead = batches(spots, size, (spot) => {
    return spot.ahead.filter((step) => isMissing(spot, step)).slice(0, 48);
  });
  for (const batch of ahead.slice(0, 2)) void load(batch, true);
}

/**
 * Gives up what is fetched ahead if pictures on the screen are missing, and, once the cursor rests, all requests of
 * which nothing is wanted any more.
 */
function abortStale(): void {
  const wanted = new Map<string, Set<StepNumber>>();
  for (const spot of aim.spots) wanted.set(spot.name, new Set([...spot.targets, ...spot.ahead]));
  for (const batch of underWay) {
    if (batch.size !== aim.size || (aim.isResting && !batch.isWanted(wanted))) batch.abort.abort();
  }
  const targets = aim.spots.some((spot) => spot.targets.some((step) => !kept(spot.name, aim.size, step)));
  if (targets) for (const batch of underWay) if (batch.isAhead) batch.abort.abort();
}

/** Fetches the whole pictures of large tiles, one after the other, and decodes them to the size of a tile. */
async function loadFull(): Promise<void> {
  const at = serial;
  const control = new AbortController();
  fullAbort = control;
  for (const { name, full, targets } of aim.spots) {
    const [step] = targets;
    const id = step === undefined ? "" : useOf(cellOf(name, FULL), step);
    if (full === null || step === undefined || sent.has(id)) continue;
    try {
      const response = await fetch(full, { signal: control.signal });
      if (!response.ok) continue;
      const whole = await createImageBitmap(
        new Blob(withoutExif(new Uint8Array(await response.arrayBuffer()))),
      );
      const { width, height } = whole;
      const scale = Math.min(1, aim.side / Math.max(width, height));
      const [resizeWidth, resizeHeight] = [width, height].map((of) => Math.max(1, Math.round(of * scale)));
      const options = {
        resizeWidth: resizeWidth ?? 1,
        resizeHeight: resizeHeight ?? 1,
        resizeQuality: "high",
      } as const;
      const bitmap = scale < 1 ? await createImageBitmap(whole, options) : whole;
      if (bitmap !== whole) whole.close();
      const bytes = bitmap.width * bitmap.height * 4;
      sent.set(id, { name, size: FULL, step, bytes });
      pixelsSent += bytes;
      const frame = { name, size: FULL, step, bitmap, width, height };
      worker.postMessage({ what: "frame", frame }, [bitmap]);
      dropOldest();
    } catch {
      // Aborted, or no picture: the thumbnail stays.
    }
    if (at !== serial) return;
  }
}

async function load(batch: Batch, isAhead: boolean): Promise<void> {
  batch.isAhead = isAhead;
  underWay.add(batch);
  let bytes = 0;
  try {
    const response = await fetch(batch.url(), { signal: batch.abort.signal });
    if (!response.ok || !response.body) throw new Error(`the gallery answered ${response.status}`);
    const parser = new FrameParser();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      bytes += value.length;
      if (isAhead) aheadBytes += value.length;
      for (const { head, bytes: picture } of parser.push(value as Uint8Array<ArrayBuffer>)) {
        const name = batch.nameOf(head);
        if (name === undefined) continue;
        const copy = picture.slice();
        keep(name, batch.size, { step: head.step, head, bytes: copy });
        batch.got(name, head.step);
        toStore(batch.size, head, copy);
      }
      news++;
      void decode();
      if (isAhead && aheadBytes > AHEAD_MAX) batch.abort.abort();
    }
    parser.end();
    failures = 0;
    // An answer may end early, when it is full or newer requests wait. What is missing twice does not exist.
    for (const { name, step } of bytes < FULL_ANSWER ? batch.missing() : []) {
      const id = useOf(cellOf(name, batch.size), step);
      if (!missed.delete(id)) missed.add(id);
      else keep(name, batch.size, { step, head: null, bytes: new Uint8Array(0) });
    }
  } catch (error) {
    if (!batch.abort.signal.aborted) {
      failures++;
      const detail = error instanceof Error ? error.message : String(error);
      worker.postMessage({ what: "failed", detail });
      await new Promise((resolve) => setTimeout(resolve, Math.min(10_000, 250 * 2 ** failures)));
    }
  }
  underWay.delete(batch);
  news++;
  void decode();
  void fetchMore();
}

/** Takes the targets whose digests are known from the browser's store. */
async function takeStored(): Promise<void> {
  const { size, spots } = aim;
  const take = async (spot: Spot) => {
    const [step] = spot.targets;
    if (step === undefined || spot.sha20 === null) return;
    const known = kept(spot.name, size, step);
    if (known) {
      // Once: the digest may be the older one of the two.
      const id = `${useOf(cellOf(spot.name, size), step)} ${spot.sha20}`;
      if (known.head?.sha20 === spot.sha20 || replaced.has(id)) return;
      replaced.add(id);
      replace(spot.name, size, step);
    }
    const { run, key, index, sha20 } = spot;
    const found = await fromStore(size, { run, key, step, index, sha20 });
    if (!found) return;
    keep(spot.name, size, { step, ...found });
    news++;
    void decode();
  };
  await Promise.all(spots.map(take));
}

/** Forgets a picture that another one has replaced. */
function replace(name: string, size: number, step: StepNumber): void {
  const cell = cellOf(name, size);
  cells.get(cell)?.delete(step);
  for (const [id, one] of sent) {
    if (one.name !== name || compareSteps(one.step, step) !== 0) continue;
    sent.delete(id);
    pixelsSent -= one.bytes;
    worker.postMessage({ what: "drop", frames: [{ name, size: one.size, step }] });
  }
}
