// The order of the tiles of a key.

import { useMemo } from "preact/hooks";
import type { Item } from "../state/api.types";
import { cellName } from "../state/catalogue";

/** Returns the index that stands at a place of a key. */
export function useOrder(sort: string, at: ReadonlyMap<string, readonly Item[]> | undefined) {
  return useMemo(() => {
    const orders = new Map<string, number[]>();
    return (run: string, key: string, place: number): number => {
      if (sort === "" || !at) return place;
      const name = cellName(run, key);
      let order = orders.get(name);
      if (!order) {
        order = sorted(at.get(name) ?? [], sort);
        orders.set(name, order);
      }
      return order[place] ?? place;
    };
  }, [sort, at]);
}

/** The indices of items in an order such as `nan` or `-caption`. Items without a value come last. */
export function sorted(items: readonly Item[], sort: string): number[] {
  const name = sort.replace(/^-/, "");
  const sign = sort.startsWith("-") ? -1 : 1;
  const value = (item: Item): string | number | null => {
    if (name === "caption") return item.caption;
    if (name === "min" || name === "max" || name === "nan") return item.stats?.[name] ?? null;
    return item.index;
  };
  const compare = (a: Item, b: Item) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null ? 1 : 0) - (y === null ? 1 : 0);
    return (x < y ? -1 : x > y ? 1 : 0) * sign;
  };
  return [...items].sort(compare).map(({ index }) => index ?? 0);
}
