// The whole view as a URL, and back. Pure.

import type { StepNumber } from "./api.types";
import { parseStep } from "./steps";

/** The pages. A path that is none of theirs is `missing`. */
export const PAGES = ["runs", "grid", "item", "compare", "search", "missing"] as const;
export type Page = (typeof PAGES)[number];

/** The layouts of the grid. */
export const LAYOUTS = ["keys", "runs", "steps"] as const;
export type Layout = (typeof LAYOUTS)[number];

/** Ways to compare. */
export const WAYS = ["side", "swipe", "flicker", "map"] as const;
export type Way = (typeof WAYS)[number];

/** Where an item is. */
export interface Place {
  run: string;
  key: string;
  step: StepNumber;
  index: number;
}

/** Zoom: device pixels for each image pixel, and the image pixel in the middle of the view. */
export interface Zoom {
  scale: number;
  x: number;
  y: number;
}

/** How values become colours. `null` means as the rule says. */
export interface Develop {
  low: number | null;
  high: number | null;
  gamma: number;
  map: string;
  /** −1: all channels. */
  channel: number;
  /** The colour of NaN, such as `ff00ff`. Empty: as the least value. */
  nan: string;
}

/** Everything that a link carries. */
export interface View {
  page: Page;
  /** The runs; the first one is the one of an item. */
  run: string[];
  /** A glob of keys in the grid, the key of an item. Empty: all keys. */
  key: string;
  lay: Layout;
  /** `last` follows the newest step. */
  step: StepNumber | "last";
  /** Whether cells whose step is another one stay empty. */
  exact: boolean;
  /** The index of an item. */
  index: number;
  /** The size of a tile in pixels; 0 as the layout suggests. */
  size: number;
  /** The order of tiles, such as `-nan`. Empty: key, step, index. */
  sort: string;
  /** A filter of runs, or a search. */
  q: string;
  z: Zoom | null;
  /** What is shown of overlays, in the words of the item page. */
  ov: string;
  dev: Develop | null;
  /** The key to whose cells in the grid `dev` applies. Empty: to none. */
  devkey: string;
  /** The panels of the item page that are open. */
  show: string[];
  a: Place | null;
  b: Place[];
  way: Way;
}

export const TILE_MIN = 64;
export const TILE_MAX = 512;

/** The view of `/` without parameters. */
export const START: View = {
  page: "runs",
  run: [],
  key: "",
  lay: "keys",
  step: "last",
  exact: false,
  index: 0,
  size: 0,
  sort: "",
  q: "",
  z: null,
  ov: "",
  dev: null,
  devkey: "",
  show: [],
  a: null,
  b: [],
  way: "side",
};

/** The path of a page. */
function pathOf(page: Page): string {
  return page === "runs" ? "/" : `/${page}`;
}

/** Reads the view of a path and a query. What can't be read is left out: a link never fails. */
export function parseView(path: string, query: string): View {
  const asked = new URLSearchParams(query);
  const text = (name: string) => asked.get(name) ?? "";
  // A link from a query of a fleet's catalogue, which has both as columns.
  const box = text("box");
  const inBox = (run: string) => (box === "" ? run : `${boxFolder(box)}/${run}`);
  return {
    page: PAGES.find((page) => pathOf(page) === path) ?? "missing",
    run: asked
      .getAll("run")
      .filter((run) => run !== "")
      .map(inBox),
    key: text("key"),
    lay: oneOf(LAYOUTS, text("lay"), START.lay),
    step: parseStep(text("step")) ?? "last",
    exact: text("exact") === "1",
    index: whole(text("index"), 0, 4294967295, 0),
    size: text("size") === "" ? 0 : whole(text("size"), TILE_MIN, TILE_MAX, 0),
    sort: text("sort"),
    q: text("q"),
    z: parseZoom(text("z")),
    ov: text("ov"),
    dev: parseDevelop(text("dev")),
    devkey: text("devkey"),
    show: text("show") === "" ? [] : text("show").split(","),
    a: parsePlace(text("a")),
    b: asked.getAll("b").map(parsePlace).filter(isPlace),
    way: oneOf(WAYS, text("way"), START.way),
  };
}

/** The folder of a box in an object store: its name, with each byte but letters, digits, `-`, `_` and `.` as `%XX`. */
function boxFolder(box: string): string {
  const plain = (byte: number, at: number) => {
    const char = String.fromCharCode(byte);
    return /[A-Za-z0-9_-]/.test(char) || (char === "." && at > 0);
  };
  const text = (byte: number, at: number) =>
    plain(byte, at) ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return Array.from(new TextEncoder().encode(box), text).join("");
}

/** Writes a view as a path and a query. What is as in [`START`] is left out. */
export function formatView(view: View): string {
  const query = new URLSearchParams();
  const add = (name: string, value: string, unless = "") => {
    if (value !== unless) query.append(name, value);
  };
  for (const run of view.run) add("run", run);
  add("key", view.key);
  add("lay", view.lay, START.lay);
  add("step", String(view.step), START.step as string);
  add("exact", view.exact ? "1" : "");
  add("index", String(view.index), "0");
  add("size", String(view.size), String(START.size));
  add("sort", view.sort);
  add("q", view.q);
  add("z", view.z ? [view.z.scale, view.z.x, view.z.y].map(short).join(",") : "");
  add("ov", view.ov);
  add("dev", view.dev ? formatDevelop(view.dev) : "");
  add("devkey", view.devkey);
  add("show", view.show.join(","));
  add("a", view.a ? formatPlace(view.a) : "");
  for (const place of view.b) add("b", formatPlace(place));
  add("way", view.way, START.way);
  const path = pathOf(view.page);
  const text = query.toString();
  return text === "" ? path : `${path}?${text}`;
}

/** Writes a place as a query, as the parameters PLACE of the API. */
export function formatPlace(place: Place): string {
  return new URLSearchParams({
    run: place.run,
    key: place.key,
    step: String(place.step),
    index: String(place.index),
  }).toString();
}

/** Reads a place that [`formatPlace`] wrote. */
export function parsePlace(text: string): Place | null {
  const asked = new URLSearchParams(text);
  const run = asked.get("run");
  const key = asked.get("key");
  const step = parseStep(asked.get("step") ?? "");
  if (!run || !key || step === null) return null;
  return { run, key, step, index: whole(asked.get("index") ?? "", 0, 4294967295, 0) };
}

function isPlace(place: Place | null): place is Place {
  return place !== null;
}

function parseZoom(text: string): Zoom | null {
  const [scale, x, y] = text.split(",").map(Number);
  if (scale === undefined || x === undefined || y === undefined) return null;
  return Number.isFinite(scale + x + y) && scale > 0 ? { scale, x, y } : null;
}

function parseDevelop(text: string): Develop | null {
  if (text === "") return null;
  const [low = "", high = "", gamma = "", map = "", channel = "", nan = ""] = text.split(",");
  const number = (of: string) => (of !== "" && Number.isFinite(Number(of)) ? Number(of) : null);
  return {
    low: number(low),
    high: number(high),
    gamma: Math.min(10, Math.max(0.1, number(gamma) ?? 1)),
    map,
    channel: whole(channel, -1, 65535, -1),
    nan: /^[0-9a-f]{6}$/.test(nan) ? nan : "",
  };
}

function formatDevelop(dev: Develop): string {
  const channel = dev.channel < 0 ? "" : String(dev.channel);
  const gamma = dev.gamma === 1 ? "" : dev.gamma;
  const nan = dev.nan === "" ? [] : [dev.nan];
  return [dev.low ?? "", dev.high ?? "", gamma, dev.map, channel, ...nan].join(",");
}

/** A number with at most six digits that matter. */
function short(value: number): string {
  return String(Number(value.toPrecision(6)));
}

function whole(text: string, low: number, high: number, otherwise: number): number {
  const value = Number(text);
  return text !== "" && Number.isInteger(value) ? Math.min(high, Math.max(low, value)) : otherwise;
}

function oneOf<T extends string>(of: readonly T[], text: string, otherwise: T): T {
  return of.find((one) => one === text) ?? otherwise;
}
