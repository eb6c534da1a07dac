// What the grid shows, and what it asks for.

import { computed, signal, useSignalEffect } from "@preact/signals";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Digest } from "../picture/painter";
import { apiErrorOf, apiUrl, ask, isAborted, sha20 } from "../state/api";
import type { At, Item, KeyRow } from "../state/api.types";
import { type Catalogue, cellName } from "../state/catalogue";
import { asGlob, matchesTyped } from "../state/glob";
import { refreshed } from "../state/live";
import type { Player } from "../state/player";
import { part } from "../state/route";
import { say } from "../state/say";
import { StepUnion } from "../state/steps";
import { formatPlace } from "../state/url";
import type { GridState } from "./Tile";

/** Keys whose steps are on the slider from the start; those of others are added when they are seen. */
const TRACKS_AT_ONCE = 64;
/** The gap between tiles in pixels. */
export const GAP = 12;
/** How long the cursor rests before captions are asked for. */
export const REST_MS = 120;

export const shown = {
  run: part("run"),
  key: part("key"),
  lay: part("lay"),
  step: part("step"),
  exact: part("exact"),
  index: part("index"),
  size: part("size"),
  sort: part("sort"),
};

/** The width that there is for tiles. */
export const room = signal(0);
/** The side of a tile with which all keys fit into the window, or 160. */
export const fittingSide = signal(160);
/** The side of a tile in pixels: as chosen, or as the layout suggests. */
export const side = computed(() => {
  if (shown.size.value !== 0) return shown.size.value;
  if (shown.lay.value === "keys") return fittingSide.value;
  if (shown.lay.value === "steps") return 96;
  const n = Math.max(1, shown.run.value.length);
  return Math.min(240, Math.max(128, Math.floor((room.value + GAP) / n) - GAP));
});

/** The keys to show, with each run that has them. */
export interface ShownKey {
  run: string;
  row: KeyRow;
}

export function keysOf(
  runs: readonly string[],
  keys: ReadonlyMap<string, readonly KeyRow[]>,
  typed: string,
  lay: string,
): ShownKey[] {
  const all = runs.flatMap((run) => (keys.get(run) ?? []).map((row) => ({ run, row })));
  // A contact sheet shows one key: the one of this name, or the first that matches.
  if (lay === "steps") {
    const exact = all.filter(({ row }) => row.key === typed);
    return (exact.length > 0 ? exact : all.filter(({ row }) => matchesTyped(typed, row.key))).slice(0, 1);
  }
  return all.filter(({ row }) => row.key === typed || matchesTyped(typed, row.key));
}

export function totalOf(
  runs: readonly string[],
  keys: ReadonlyMap<string, readonly KeyRow[]>,
  typed: string,
): number {
  let total = 0;
  // Images of a run that is not known yet are not new.
  if (!runs.every((run) => keys.has(run))) return 0;
  for (const rows of keys.values()) {
    for (const row of rows) if (matchesTyped(typed, row.key)) total += row.image;
  }
  return total;
}

/** Asks for the steps of the keys, and lets the slider run over them. */
export function useTracks(
  catalogue: Catalogue,
  player: Player,
  runs: readonly string[],
  keys: readonly ShownKey[],
  lay: string,
): void {
  const names = keys.map(({ run, row }) => cellName(run, row.key));
  const all = names.join("\n");
  // As all that asks for something here: before the browser paints.
  useLayoutEffect(() => {
    for (const { run, row } of keys.slice(0, TRACKS_AT_ONCE)) catalogue.want(run, row.key);
  }, [all]);
  const tracks = catalogue.tracks.value;
  useLayoutEffect(() => {
    const known = names.flatMap((name) => tracks.get(name)?.all ?? []);
    player.steps.value = new StepUnion(known);
  }, [all, tracks, runs, lay]);
}

/** Asks for the items at the step where the cursor rests. Returns them by cell, once they are there. */
export function useFacts(
  grid: GridState,
  runs: readonly string[],
  keys: readonly ShownKey[],
): ReadonlyMap<string, readonly Item[]> | undefined {
  const [at, setAt] = useState<ReadonlyMap<string, readonly Item[]>>();
  const [lay, typed, asked] = [shown.lay.value, shown.key.value, shown.step.value];
  const isFirst = at === undefined;
  // At a step that is not the newest, only held items change: they are released.
  const counts = keys.map(({ row }) => (asked === "last" ? row.image : 0) + row.held).join();
  // The first answer is asked for together with the keys, and belongs to their first counts.
  const first = useRef<{ asked: string; counts: string } | undefined>(undefined);
  const question = JSON.stringify([asked, typed]);
  if (first.current?.asked !== question && keys.length > 0) first.current = { asked: question, counts };
  const version = keys.length === 0 || counts === first.current?.counts ? "" : counts;
  const all = refreshed.value;
  useLayoutEffect(() => {
    if (lay === "steps") return;
    const abort = new AbortController();
    const load = async () => {
      const cells = new Map<string, readonly Item[]>();
      const names = [...new Set(keys.map(({ row }) => row.key))];
      // Names are exact; a glob is for when there are many.
      const key = typed === "" ? null : names.length > 0 && names.length <= 16 ? names : asGlob(typed);
      let cursor: string | null = null;
      do {
        const url: string = apiUrl("at", { run: runs, key, step: asked, cursor });
        const answer: At = await ask<At>(url, abort.signal);
        for (const cell of answer.cells) cells.set(cellName(cell.run, cell.key), cell.items);
        cursor = answer.next;
      } while (cursor !== null && cells.size < 5_000);
      const facts = new Map<string, Item>();
      for (const item of [...cells.values()].flat()) {
        facts.set(JSON.stringify([item.run, item.key, item.index]), item);
      }
      grid.facts.value = facts;
      setAt(cells);
    };
    const timer = setTimeout(
      () =>
        load().catch((error: unknown) => {
          if (isAborted(error)) return;
          // The pictures are there all the same; the next step asks again.
          if (isFirst) setAt(new Map());
          say(apiErrorOf(error).message);
        }),
      isFirst ? 0 : REST_MS,
    );
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [asked, lay, typed, version, all]);
  return at;
}

/** Larger pictures are looked at on the page of the item. */
const FULL_PIXELS_MAX = 16_000_000;

/** The address of a picture that is larger than its thumbnail; null if there is none. */
function fullUrl({
  run,
  key,
  step,
  index,
  sha256,
  path,
  file_type,
  pruned,
  width,
  height,
}: Item): string | null {
  if (key === null || step === null || !sha256 || !path || pruned || file_type === "tiff") return null;
  if (!width || !height || Math.max(width, height) <= 256 || width * height > FULL_PIXELS_MAX) return null;
  const place = formatPlace({ run, key, step, index: index ?? 0 });
  return `/m/${sha20(sha256)}.${path.split(".").at(-1)}?${place}`;
}

/** Tells the painter what to draw. Nothing is rendered for a step. */
export function usePainting(catalogue: Catalogue, player: Player, grid: GridState): void {
  useSignalEffect(() => {
    const digests = new Map<string, Digest>();
    for (const [id, item] of grid.facts.value) {
      const { step, sha256, pruned } = item;
      const digest = sha256 && !pruned ? sha20(sha256) : null;
      if (step !== null) digests.set(id, { step, sha20: digest, full: fullUrl(item) });
    }
    grid.painter.show({
      cursor: player.cursor.value,
      isExact: shown.exact.value,
      side: side.value,
      tracks: catalogue.tracks.value,
      digests,
    });
  });
}
