// Boxes and masks: what is drawn of them, and where. Pure.
//
// The file of a set of boxes is W&B's: `box_data` with positions in fractions of the picture or in pixels.

import type { Layer } from "../state/api.types";
import type { Size } from "./zoom";

/** A box in pixels of the shown picture. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  /** The class's id as text; empty without a class. */
  readonly classId: string;
  readonly caption: string;
  readonly scores: Readonly<Record<string, number>>;
}

/** How one layer is shown. */
export interface LayerSettings {
  readonly isHidden: boolean;
  /** From 0 to 1. */
  readonly opacity: number;
  readonly isFilled: boolean;
  /** The ids of the classes that are hidden. */
  readonly hidden: readonly string[];
  /** The least score that is shown, by the score's name. */
  readonly scores: Readonly<Record<string, number>>;
}

/** All overlays of a page, as the link carries them. */
export interface Overlays {
  readonly isOff: boolean;
  /** By `boxes:NAME` or `mask:NAME`. */
  readonly layers: Readonly<Record<string, LayerSettings>>;
}

/** The fields that are read of JSON whose form is not known. */
type Fields = { readonly [name: string]: unknown } & {
  readonly [name in
    | ("off" | "l" | "x" | "o" | "f" | "h" | "s")
    | ("box_data" | "position" | "middle" | "domain" | "scores" | "class_id" | "box_caption")]?: unknown;
};

export const NO_OVERLAYS: Overlays = { isOff: false, layers: {} };

export function layerId(layer: Pick<Layer, "kind" | "name">): string {
  return `${layer.kind}:${layer.name}`;
}

/** Boxes begin as outlines, masks as half transparent areas without the background. */
export function defaults(layer: Layer): LayerSettings {
  const isMask = layer.kind === "mask";
  return {
    isHidden: false,
    opacity: isMask ? 0.5 : 1,
    isFilled: isMask,
    hidden: isMask && isBackground(layer) ? ["0"] : [],
    scores: {},
  };
}

/** Class 0 of a mask is the background unless the job named it otherwise. */
function isBackground(layer: Layer): boolean {
  const name = layer.classes["0"]?.name ?? "0";
  return name === "0" || name === "class_0" || name.toLowerCase() === "background";
}

export function settingsOf(overlays: Overlays, layer: Layer): LayerSettings {
  const id = layerId(layer);
  return (Object.hasOwn(overlays.layers, id) && overlays.layers[id]) || defaults(layer);
}

export function withSettings(overlays: Overlays, layer: Layer, change: Partial<LayerSettings>): Overlays {
  const settings = { ...settingsOf(overlays, layer), ...change };
  return { ...overlays, layers: { ...overlays.layers, [layerId(layer)]: settings } };
}

/** Shows only this layer; all layers if it is the only one already. */
export function soloLayer(overlays: Overlays, all: readonly Layer[], chosen: Layer): Overlays {
  const isOnly = all.every((layer) => settingsOf(overlays, layer).isHidden === (layer !== chosen));
  return all.reduce(
    (result, layer) => withSettings(result, layer, { isHidden: !isOnly && layer !== chosen }),
    overlays,
  );
}

/** Shows or hides a class. */
export function toggleClass(overlays: Overlays, layer: Layer, id: string): Overlays {
  const { hidden } = settingsOf(overlays, layer);
  const without = hidden.filter((other) => other !== id);
  return withSettings(overlays, layer, {
    hidden: without.length < hidden.length ? without : [...hidden, id],
  });
}

/** Shows only this class of the layer; all classes if it is the only one already. */
export function soloClass(overlays: Overlays, layer: Layer, ids: readonly string[], id: string): Overlays {
  const others = ids.filter((other) => other !== id);
  const { hidden } = settingsOf(overlays, layer);
  const isOnly = !hidden.includes(id) && others.every((other) => hidden.includes(other));
  return withSettings(overlays, layer, { hidden: isOnly ? [] : others });
}

/** Reads the parameter `ov`. What cannot be read is as if it were not there. */
export function parseOverlays(text: string | null): Overlays {
  try {
    const given: unknown = JSON.parse(text ?? "");
    if (!isRecord(given)) {
      return NO_OVERLAYS;
    }
    const layers = isRecord(given.l) ? given.l : {};
    return {
      isOff: given.off === 1,
      layers: Object.fromEntries(Object.entries(layers).map(([id, layer]) => [id, parseLayer(layer)])),
    };
  } catch {
    return NO_OVERLAYS;
  }
}

function parseLayer(given: unknown): LayerSettings {
  const of = isRecord(given) ? given : {};
  const opacity = Number(of.o ?? 1);
  const scores = Object.entries(isRecord(of.s) ? of.s : {});
  return {
    isHidden: of.x === 1,
    opacity: opacity >= 0 && opacity <= 1 ? opacity : 1,
    isFilled: of.f === 1,
    hidden: Array.isArray(of.h) ? of.h.map(String) : [],
    scores: Object.fromEntries(
      scores.filter((entry): entry is [string, number] => Number.isFinite(entry[1])),
    ),
  };
}

/** Null if nothing differs from what a page shows without the parameter. */
export function formatOverlays({ isOff, layers }: Overlays): string | null {
  const short = Object.entries(layers).map(([id, layer]) => [
    id,
    {
      ...(layer.isHidden && { x: 1 }),
      o: layer.opacity,
      ...(layer.isFilled && { f: 1 }),
      ...(layer.hidden.length > 0 && { h: layer.hidden }),
      ...(Object.keys(layer.scores).length > 0 && { s: layer.scores }),
    },
  ]);
  if (!isOff && short.length === 0) {
    return null;
  }
  return JSON.stringify({
    ...(isOff && { off: 1 }),
    ...(short.length > 0 && { l: Object.fromEntries(short) }),
  });
}

/** Reads the file of a set of boxes. Entries that are no boxes are left out. `logged` is the size that the picture had
 * when it was logged; positions in pixels are in its pixels. */
export function readBoxes(file: unknown, logged: Size, shown: Size): Box[] {
  const list = isRecord(file) && Array.isArray(file.box_data) ? file.box_data : [];
  return list.flatMap((given: unknown) => {
    const box = isRecord(given) ? readBox(given, logged, shown) : null;
    return box ? [box] : [];
  });
}

function readBox(given: Fields, logged: Size, shown: Size): Box | null {
  const edges = isRecord(given.position) ? edgesOf(given.position) : null;
  if (!edges?.every(Number.isFinite)) {
    return null;
  }
  const unit = given.domain === "pixel" ? logged : { width: 1, height: 1 };
  const [left, right, top, bottom] = edges;
  const [byX, byY] = [shown.width / (unit.width || 1), shown.height / (unit.height || 1)];
  const scores = Object.entries(isRecord(given.scores) ? given.scores : {});
  const classId = given.class_id;
  return {
    left: Math.min(left, right) * byX,
    top: Math.min(top, bottom) * byY,
    width: Math.abs(right - left) * byX,
    height: Math.abs(bottom - top) * byY,
    classId: classId === undefined || classId === null ? "" : String(Number(classId)),
    caption: typeof given.box_caption === "string" ? given.box_caption : "",
    scores: Object.fromEntries(scores.map(([name, score]) => [name, Number(score)])),
  };
}

/** Left, right, top and bottom. */
function edgesOf(position: Fields): [number, number, number, number] | null {
  const number = (name: string) => Number(position[name]);
  const middle = position.middle;
  if (Array.isArray(middle)) {
    const [x, y] = [Number(middle[0]), Number(middle[1])];
    const [halfWidth, halfHeight] = [number("width") / 2, number("height") / 2];
    return [x - halfWidth, x + halfWidth, y - halfHeight, y + halfHeight];
  }
  return [number("minX"), number("maxX"), number("minY"), number("maxY")];
}

/** Whether a box passes the layer's settings. A box without a score passes that score's slider. */
export function isShown(box: Box, settings: LayerSettings): boolean {
  return (
    !settings.hidden.includes(box.classId) &&
    Object.entries(settings.scores).every(([name, least]) => {
      const score = Object.hasOwn(box.scores, name) ? box.scores[name] : undefined;
      return score === undefined || score >= least;
    })
  );
}

/** The least and greatest score of each name, in order of names. */
export function scoreRanges(boxes: readonly Box[]): [name: string, low: number, high: number][] {
  const ranges = new Map<string, [number, number]>();
  for (const { scores } of boxes) {
    for (const [name, score] of Object.entries(scores)) {
      const [low, high] = ranges.get(name) ?? [score, score];
      ranges.set(name, [Math.min(low, score), Math.max(high, score)]);
    }
  }
  return [...ranges]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, [low, high]]): [string, number, number] => [name, Math.min(0, low), Math.max(1, high)]);
}

/** The text beside a box. */
export function boxLabel(box: Box, className: string): string {
  const scores = Object.entries(box.scores).map(([name, score]) => `${name} ${Number(score.toPrecision(3))}`);
  return [box.caption || className, ...(box.caption ? [] : scores)].filter(Boolean).join(" ");
}

/** The number of boxes of each class, by its id. */
export function boxCounts(boxes: readonly Box[]): Map<string, number> {
  return counts(boxes.map(({ classId }) => classId));
}

/** A mask: a class id for each pixel. */
export interface Mask extends Size {
  readonly ids: Uint8Array | Uint16Array;
}

/** The number of pixels of each class, by its id. */
export function maskCounts({ ids }: Mask): Map<string, number> {
  const found = new Uint32Array(65536);
  for (const id of ids) {
    found[id] = (found[id] as number) + 1;
  }
  const result = new Map<string, number>();
  found.forEach((count, id) => {
    if (count > 0) {
      result.set(String(id), count);
    }
  });
  return result;
}

function counts(ids: readonly string[]): Map<string, number> {
  const result = new Map<string, number>();
  for (const id of ids) {
    result.set(id, (result.get(id) ?? 0) + 1);
  }
  return result;
}

/** The pixels of a mask: red, green, blue, and alpha by the settings. Outlines are pixels that touch another class. */
export function maskPixels(
  mask: Mask,
  settings: LayerSettings,
  color: (id: string) => readonly [number, number, number],
): Uint8ClampedArray<ArrayBuffer> {
  const { ids, width, height } = mask;
  const alpha = Math.round(settings.opacity * 255);
  const table = new Map<number, number>();
  const packed = (id: number) => {
    let found = table.get(id);
    if (found === undefined) {
      const [red, green, blue] = color(String(id));
      found = settings.hidden.includes(String(id)) ? 0 : red | (green << 8) | (blue << 16) | (alpha << 24);
      table.set(id, found);
    }
    return found;
  };
  const pixels = new Uint32Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const id = ids[at] as number;
      const isInside =
        !settings.isFilled &&
        (x === 0 || ids[at - 1] === id) &&
        (x === width - 1 || ids[at + 1] === id) &&
        (y === 0 || ids[at - width] === id) &&
        (y === height - 1 || ids[at + width] === id);
      pixels[at] = isInside ? 0 : packed(id);
    }
  }
  return new Uint8ClampedArray(pixels.buffer);
}

/** The color of a class as the daemon chooses it, for ids that the layer does not name. */
export function classColor(id: number): [number, number, number] {
  const modulo = (value: number, by: number) => ((value % by) + by) % by;
  const hue = modulo(modulo(id, 1536) * 587, 1536);
  const [high, low] = modulo(id, 2) === 0 ? [255, 40] : [205, 0];
  const rising = low + Math.floor(((high - low) * (hue % 256)) / 255);
  const falling = high + low - rising;
  const sixths: [number, number, number][] = [
    [high, rising, low],
    [falling, high, low],
    [low, high, rising],
    [low, falling, high],
    [rising, low, high],
    [high, low, falling],
  ];
  return sixths[Math.floor(hue / 256)] ?? [high, low, falling];
}

function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
