// The values of the shown picture, whole or a tile at a time, and pictures developed of them.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Develop } from "../picture/develop";
import type { Developed } from "../picture/develop.worker";
import { developed } from "../picture/developer";
import {
  bytesOf,
  isExactInPng,
  loadAllValues,
  loadBitmap,
  loadSamples,
  loadValues,
  params,
  VALUES_BYTES_MAX,
  valuesBytes,
} from "../picture/load";
import type { Tensor } from "../picture/npy";
import type { PicturePart } from "../picture/paint";
import { hexColor } from "../picture/rule";
import type { Rectangle } from "../picture/zoom";
import { apiUrl } from "../state/api";
import { useLoaded } from "../state/loaded";
import { formatPlace } from "../state/url";
import type { Shown } from "./shown";

/** What is known of the values. */
export interface KnownValues {
  /** All values of the dump; null if they are too many, not there yet, or not served. */
  readonly whole: Tensor | null;
  /** The stored picture's bytes. They are copied when they are first asked for. */
  readonly bytes: () => Tensor | null;
  /** All values of the dump; the stored bytes if it is not served. */
  readonly all: () => Tensor | null;
  readonly channels: number;
  /** Returns values around a pixel and the place of their first one, and asks for them if they are not there. */
  readonly near: (x: number, y: number) => { tensor: Tensor; x: number; y: number } | null;
  /** Whether the values are those of the dump. */
  readonly isProved: boolean;
  /** Whether all of them are on their way. */
  readonly isComing: boolean;
  readonly error: Error | undefined;
}

const TILE = 128;
const TILES_MAX = 64;
/** Larger pictures are not copied from the browser's memory. */
const BYTES_PIXELS_MAX = 16_000_000;

export function useValues(shown: Shown | undefined): KnownValues {
  const isProved = shown !== undefined && shown.details.dump.proof !== null;
  const isSmall = shown !== undefined && valuesBytes(shown.details) <= VALUES_BYTES_MAX;
  const id = shown ? `${formatPlace(shown.place)} ${shown.details.item.sha256}` : "";
  const loaded = useLoaded(isProved && isSmall ? id : null, () => {
    const { place, details } = shown as Shown;
    return loadAllValues(place, details);
  });
  const proved = loaded.of === id ? (loaded.value ?? null) : null;
  const isExact = shown?.bitmap && isExactInPng(shown.details.item);
  const samples = useLoaded(isExact ? id : null, (signal) => {
    const { place, details } = shown as Shown;
    return loadSamples(place, details.item, signal);
  });
  const exact = samples.of === id ? samples.value : null;
  const bytes = useMemo(() => {
    let copied: Tensor | null | undefined;
    return () => {
      if (exact) return exact;
      if (copied === undefined) copied = shown ? storedBytes(shown) : null;
      return copied;
    };
  }, [shown, exact]);
  const tiles = useTiles(isProved && !isSmall ? shown : undefined);
  const all = () => (isProved ? proved : bytes());
  const near = (x: number, y: number) => {
    const tensor = all();
    return tensor ? { tensor, x: 0, y: 0 } : tiles(x, y);
  };
  const channels = shown ? channelsOf(shown, isProved) : 1;
  const isComing = isProved && isSmall && proved === null && loaded.of !== id;
  return { whole: proved, all, bytes, near, channels, isProved, isComing, error: loaded.error };
}

/** The picture of a held or pruned item is made of its values: it has no stored bytes. */
function storedBytes({ bitmap, details: { item } }: Shown): Tensor | null {
  const isTaken = bitmap !== null && bitmap.width * bitmap.height <= BYTES_PIXELS_MAX;
  return isTaken && item.state === "image" && !item.pruned ? bytesOf(bitmap, item.mode) : null;
}

function channelsOf({ details: { item, dump } }: Shown, isProved: boolean): number {
  if (isProved && dump.size) return dump.size[2];
  return { L: 1, "1": 1, "I;16": 1, LA: 2, RGBA: 4 }[item.mode ?? ""] ?? 3;
}

/** Values of large images, a tile at a time. */
function useTiles(shown: Shown | undefined) {
  const [, setVersion] = useState(0);
  const tiles = useRef<{ of: Shown | undefined; kept: Map<string, Tensor | null> }>({
    of: shown,
    kept: new Map(),
  });
  if (tiles.current.of !== shown) tiles.current = { of: shown, kept: new Map() };
  return (x: number, y: number) => {
    const { of, kept } = tiles.current;
    if (!of) return null;
    const [left, top] = [Math.floor(x / TILE) * TILE, Math.floor(y / TILE) * TILE];
    const id = `${left} ${top}`;
    const known = kept.get(id);
    if (known !== undefined) return known && { tensor: known, x: left, y: top };
    kept.set(id, null);
    const oldest = kept.keys().next();
    if (kept.size > TILES_MAX && !oldest.done) kept.delete(oldest.value);
    const part = {
      x: left,
      y: top,
      width: Math.min(TILE, of.size.width - left),
      height: Math.min(TILE, of.size.height - top),
    };
    loadValues(of.place, part).then(
      (tensor) => {
        kept.set(id, tensor);
        setVersion((last) => last + 1);
      },
      () => kept.delete(id),
    );
    return null;
  };
}

/** A picture and marks made of values. */
export interface DevelopedPicture {
  readonly of: Shown;
  readonly picture: PicturePart | null;
  readonly marks: Developed["marks"];
}

/** Develops and marks the values of the shown picture: on the page if they are there, else by the daemon. */
export function useDeveloped(
  shown: Shown | undefined,
  values: KnownValues,
  how: Develop,
  isDeveloped: boolean,
  marked: readonly [number, number] | null,
  region: Rectangle | null,
  screenSide: number,
): DevelopedPicture | null {
  const [state, setState] = useState<DevelopedPicture | null>(null);
  const { whole, isProved } = values;
  const isRemote = isProved && !whole && shown !== undefined && valuesBytes(shown.details) > VALUES_BYTES_MAX;
  // Of a very large picture, the part on the screen is made of the dump.
  const isCoarse = isRemote && shown.bitmap !== null && shown.bitmap.width < (shown.details.item.width ?? 0);
  const wish = JSON.stringify([how, isDeveloped, marked, isRemote && region, isRemote && screenSide]);
  useEffect(() => {
    let isCurrent = true;
    const abort = new AbortController();
    const set = (made: Omit<DevelopedPicture, "of">) => {
      if (isCurrent && shown) setState({ of: shown, ...made });
    };
    if (!shown || (!isDeveloped && !marked && !isCoarse)) {
      setState(null);
    } else if (whole || !isProved) {
      const part = { x: 0, y: 0, ...shown.size };
      const tensor = values.all();
      if (!tensor) return;
      void developed(tensor, { how: isDeveloped ? how : null, marked }).then(({ picture, marks }) => {
        set({ picture: picture && { bitmap: picture, part }, marks });
      });
    } else if (isRemote) {
      const part = region ?? { x: 0, y: 0, ...shown.size };
      const timer = setTimeout(() => {
        // Marks are drawn on the picture as it is stored, too.
        const colormap = isDeveloped ? how.colormap : (shown.details.item.colormap ?? null);
        const isAsStored = !isDeveloped && marked === null;
        const url = developUrl(
          shown,
          isAsStored ? null : { ...how, colormap },
          part,
          screenSide,
          marked !== null,
        );
        loadBitmap(url, abort.signal).then(
          (bitmap) => set({ picture: { bitmap, part }, marks: null }),
          () => set({ picture: null, marks: null }),
        );
      }, 120);
      abort.signal.addEventListener("abort", () => clearTimeout(timer));
    }
    return () => {
      isCurrent = false;
      abort.abort();
    };
  }, [shown, whole, isProved || values.bytes, wish]);
  return state && state.of === shown ? state : null;
}

/** The address of a picture that the daemon develops. */
export function developUrl(
  shown: Shown,
  /** Null: as the stored one. */
  how: Develop | null,
  part: Rectangle | null,
  screenSide: number | null,
  areMarked = false,
): string {
  return apiUrl("develop.png", {
    ...params(shown.place),
    ...(how && {
      low: how.low,
      high: how.high,
      gamma: how.gamma === 1 ? null : how.gamma,
      colormap: how.colormap,
      channel: how.channel,
      nan: how.nanColor && hexColor(how.nanColor),
    }),
    marks: areMarked ? 1 : null,
    ...(part && { x: part.x, y: part.y, w: part.width, h: part.height }),
    size: part && screenSide !== null && Math.max(part.width, part.height) > screenSide ? screenSide : null,
  });
}
