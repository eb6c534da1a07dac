// An item with its picture: both change together, so that no label stands beside another picture.

import { useEffect, useRef, useState } from "preact/hooks";
import {
  loadAllValues,
  loadPicture,
  type NoPicture,
  params,
  sizeOf,
  VALUES_BYTES_MAX,
  valuesBytes,
  whyNoPicture,
} from "../picture/load";
import type { Size } from "../picture/zoom";
import { ApiError, apiUrl, ask, isAborted } from "../state/api";
import type { ItemDetails } from "../state/api.types";
import { refreshed } from "../state/live";
import { type Loaded, useLoaded } from "../state/loaded";
import { info } from "../state/store";
import { formatPlace, type Place } from "../state/url";

export interface Shown {
  readonly place: Place;
  readonly details: ItemDetails;
  /** The size in which places of the picture are counted. */
  readonly size: Size;
  readonly bitmap: ImageBitmap | null;
  /** Why there is no picture. */
  readonly why: NoPicture | null;
  readonly failure: string | null;
}

const PIXELS_MAX = 32_000_000;
/** Larger pictures are not decoded ahead. */
const AHEAD_PIXELS_MAX = 4_000_000;
const KEPT_MAX = 24;
/** 64 MiB of decoded pixels. */
const KEPT_PIXELS_MAX = 16_000_000;
const kept = new Map<string, { made: Promise<Shown>; pixels: number }>();

/** How many pictures are on their way at once, while the step moves faster than they come. */
const UNDER_WAY_MAX = 2;

/**
 * Gets an item and its picture. The last one stays until the next one is decoded. While the step moves fast, those that
 * were begun are shown when they are there, and then the newest one: nothing is begun in vain.
 */
export function useShown(place: Place | null, version: number): Loaded<Shown> {
  const id = place && `${version} ${formatPlace(place)}`;
  const [state, setState] = useState<Loaded<Shown>>({ value: undefined, of: null, error: undefined });
  const work = useRef({ wanted: id, place, begun: 0, shown: 0, underWay: 0, last: null as string | null });
  useEffect(() => {
    const at = work.current;
    at.wanted = id;
    at.place = place;
    const pump = () => {
      const { wanted, place } = at;
      if (wanted === null || place === null || wanted === at.last || at.underWay >= UNDER_WAY_MAX) return;
      at.last = wanted;
      at.begun++;
      at.underWay++;
      const turn = at.begun;
      const done = (next: Omit<Loaded<Shown>, "of">) => {
        at.underWay--;
        if (turn > at.shown) {
          at.shown = turn;
          setState({ ...next, of: wanted });
        }
        pump();
      };
      shownAt(wanted, place).then(
        (value) => done({ value, error: undefined }),
        (error: unknown) =>
          done({ value: undefined, error: error instanceof Error ? error : new Error(String(error)) }),
      );
    };
    pump();
  }, [id]);
  return state;
}

/** Gets several items and their pictures. The last ones stay until all next ones are decoded. */
export function useAllShown(places: readonly Place[]): Loaded<readonly Shown[]> {
  const ids = places.map((place) => `${refreshed.value} ${formatPlace(place)}`);
  return useLoaded(ids.length > 0 ? ids.join("\n") : null, (signal) =>
    Promise.all(places.map((place, at) => shownAt(ids[at] ?? "", place, signal))),
  );
}

/** Decodes the neighbours of an item, so that the next step is there at once; with their values, if those are drawn. */
export function useNeighbours(shown: Shown | undefined, version: number, areValuesDrawn: boolean): void {
  useEffect(() => {
    if (!shown || shown.size.width * shown.size.height > AHEAD_PIXELS_MAX) return;
    for (const step of [...shown.details.around].reverse()) {
      if (step === null) continue;
      const place = { ...shown.place, step };
      const next = shownAt(`${version} ${formatPlace(place)}`, place);
      next
        .then(async ({ details }) => {
          const isWanted = areValuesDrawn && details.dump.proof !== null;
          if (isWanted && valuesBytes(details) <= VALUES_BYTES_MAX) await loadAllValues(place, details);
        })
        // If it is looked at, it says itself what is wrong.
        .catch(() => {});
    }
  }, [shown, version, areValuesDrawn]);
}

/** Gets an item that may have been got before. */
function shownAt(id: string, place: Place, signal?: AbortSignal): Promise<Shown> {
  const known = kept.get(id);
  if (known) return known.made;
  const entry = { made: load(place, signal), pixels: 0 };
  kept.set(id, entry);
  const forget = () => kept.get(id) === entry && kept.delete(id);
  signal?.addEventListener("abort", forget);
  entry.made.then(({ bitmap }) => {
    signal?.removeEventListener("abort", forget);
    entry.pixels = bitmap ? bitmap.width * bitmap.height : 0;
    forgetOldest();
  }, forget);
  return entry.made;
}

function forgetOldest(): void {
  let pixels = [...kept.values()].reduce((sum, one) => sum + one.pixels, 0);
  for (const [id, one] of kept) {
    if (pixels <= KEPT_PIXELS_MAX && kept.size <= KEPT_MAX) return;
    pixels -= one.pixels;
    kept.delete(id);
  }
}

async function load(place: Place, signal?: AbortSignal): Promise<Shown> {
  const details = await ask<ItemDetails>(apiUrl("item", params(place)), signal);
  const pixelsMax = info.peek()?.limits.pixels_max ?? PIXELS_MAX;
  const why = whyNoPicture(details, pixelsMax);
  const shown = { place, details, size: sizeOf(details), bitmap: null, why, failure: null };
  if (why !== null) return shown;
  try {
    return { ...shown, bitmap: await loadPicture(place, details, pixelsMax, signal) };
  } catch (error) {
    if (isAborted(error)) throw error;
    const failure =
      error instanceof ApiError ? error.problem.detail : "The browser cannot decode this picture.";
    return { ...shown, failure };
  }
}

/** Whether a picture has transparent parts. */
export function hasAlpha({ details: { item } }: Shown): boolean {
  return item.mode === "RGBA" || item.mode === "LA";
}
