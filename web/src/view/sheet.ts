// What a contact sheet asks for: the items in view, or all of them in an order.

import { useSignalEffect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { apiErrorOf, apiUrl, ask, isAborted } from "../state/api";
import type { At, Item, Items } from "../state/api.types";
import type { Player } from "../state/player";
import { say } from "../state/say";
import type { StepList } from "../state/steps";
import { REST_MS, type ShownKey, shown } from "./gridState";
import type { Sheet } from "./layouts";
import type { Scroller } from "./Scroll";
import type { GridState } from "./Tile";

/**
 * Asks for the items of a contact sheet's tiles in view. Returns a function to call with their places, and whether the
 * item at the cursor is there, which tells how high the pictures are.
 */
export function useSheetFacts(
  grid: GridState,
  first: ShownKey | undefined,
  list: StepList | undefined,
): [(from: number, to: number) => void, boolean] {
  const [isReady, setReady] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const abort = useRef<AbortController | undefined>(undefined);
  useEffect(() => {
    if (!first) return;
    setReady(false);
    const { run, row } = first;
    const url = apiUrl("at", { run, key: row.key, step: shown.step.peek() });
    ask<At>(url)
      .then(({ cells }) => {
        const items = cells.flatMap((cell) => (cell.key === row.key ? cell.items : []));
        grid.facts.value = new Map(items.map((item) => [`at ${item.index}`, item]));
      })
      .catch(() => undefined)
      .finally(() => setReady(true));
    return () => {
      clearTimeout(timer.current);
      abort.current?.abort();
    };
  }, [first?.run, first?.row.key]);
  const seen = (from: number, to: number) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => void load(from, to), REST_MS);
  };
  return [seen, isReady];

  async function load(from: number, to: number): Promise<void> {
    const [low, high] = [list?.at(from), list?.at(to - 1)];
    if (!first || !list || low == null || high == null) return;
    abort.current?.abort();
    const control = new AbortController();
    abort.current = control;
    const facts = new Map<string, Item>();
    try {
      let cursor: string | null = null;
      do {
        const where = { run: first.run, key: first.row.key, first_step: low, last_step: high };
        const answer: Items = await ask<Items>(apiUrl("items", { ...where, cursor }), control.signal);
        for (const item of answer.items) {
          if (item.step !== null && (item.index ?? 0) === shown.index.peek()) {
            facts.set(String(list.placeAtMost(item.step)), item);
          }
        }
        cursor = answer.next;
      } while (cursor !== null);
      grid.facts.value = facts;
    } catch (error) {
      // The pictures are there all the same.
      if (!isAborted(error)) say(apiErrorOf(error).message);
    }
  }
}

/** Shows the row of the cursor in a contact sheet, when the sheet is there and when the cursor moves. */
export function useSheetCursor(
  player: Player,
  sheet: Sheet | null,
  list: StepList | undefined,
  scroller: { current: Scroller | null },
): void {
  const latest = useRef({ sheet, list });
  latest.current = { sheet, list };
  const reveal = () => {
    const cursor = player.cursor.value;
    const { sheet: now, list: steps } = latest.current;
    if (!now || !steps || cursor === null) return;
    const row = now.locate(String(Math.max(0, steps.placeAtMost(cursor))))?.[0];
    if (row !== undefined) scroller.current?.reveal(row);
  };
  useSignalEffect(reveal);
  const isThere = sheet !== null && list !== undefined;
  useEffect(() => {
    // The rows have their heights after the first layout.
    const request = requestAnimationFrame(reveal);
    return () => cancelAnimationFrame(request);
  }, [isThere]);
}

/** Items of a sheet that has an order; the first ones of the order, if there are more. */
const SORTED_MAX = 2_000;

/** Asks for the images of a key in an order such as `-nan`. Null while they come, and without an order. */
export function useSortedItems(
  grid: GridState,
  first: ShownKey | undefined,
  order: string,
): readonly Item[] | null {
  const [items, setItems] = useState<readonly Item[] | null>(null);
  useEffect(() => {
    setItems(null);
    if (!first || order === "") return;
    const abort = new AbortController();
    const load = async () => {
      const found: Item[] = [];
      let cursor: string | null = null;
      do {
        const where = { run: first.run, key: first.row.key, state: "image", order, limit: 500 };
        const answer: Items = await ask<Items>(apiUrl("items", { ...where, cursor }), abort.signal);
        found.push(...answer.items);
        cursor = answer.next;
      } while (cursor !== null && found.length < SORTED_MAX);
      if (cursor !== null) say(`These are the first ${found.length.toLocaleString("en")}`);
      grid.facts.value = new Map(found.map((item, place) => [String(place), item]));
      setItems(found);
    };
    load().catch((error: unknown) => {
      if (!isAborted(error)) say(apiErrorOf(error).message);
    });
    return () => abort.abort();
  }, [first?.run, first?.row.key, order]);
  return items;
}
