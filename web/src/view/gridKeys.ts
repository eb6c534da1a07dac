// Keys of the keyboard that work on tiles, and what is compared.

import { useKeys } from "../state/keys";
import { push, replace, view } from "../state/route";
import { say } from "../state/say";
import { compareSteps } from "../state/steps";
import { type Place, START, TILE_MAX, TILE_MIN } from "../state/url";
import { side } from "./gridState";
import { moved, type Sheet } from "./layouts";
import type { Scroller } from "./Scroll";
import { type GridState, itemView } from "./Tile";

/** Binds the keys of tiles. */
export function useGridKeys(
  sheet: Sheet | null,
  grid: GridState,
  scroller: { current: Scroller | null },
): void {
  const select = (by: [number, number]) => {
    if (!sheet) return;
    const to = moved(sheet, grid.selected.peek(), by);
    if (!to) return;
    const row = sheet.locate(to.id)?.[0];
    if (row !== undefined) scroller.current?.reveal(row);
    grid.selected.value = to.id;
  };
  const place = (): Place | null => {
    const id = grid.selected.peek();
    return id === null ? null : (grid.drawn.get(id) ?? null);
  };
  const resize = (by: number) => {
    replace({ size: Math.min(TILE_MAX, Math.max(TILE_MIN, side.peek() + by)) });
  };
  useKeys({
    up: () => select([-1, 0]),
    down: () => select([1, 0]),
    left: () => select([0, -1]),
    right: () => select([0, 1]),
    open: () => {
      const to = place();
      if (to) push(itemView(to));
    },
    back: () => push(START),
    larger: () => resize(32),
    smaller: () => resize(-32),
    exact: () => replace({ exact: !view.peek().exact }),
    compare: () => addToCompare(place()),
  });
}

/** Adds a picture to those that are compared, or takes it away. */
export function addToCompare(place: Place | null): void {
  if (!place) {
    say("Select a picture first: w a s d, or click beside it");
    return;
  }
  const { a, b } = view.peek();
  const all = [a, ...b].filter((one) => one !== null);
  const others = all.filter((one) => !isSame(one, place));
  const next = others.length < all.length ? others : [...all, place];
  if (next.length > 9) {
    say("At most 9 pictures are compared");
    return;
  }
  const [first = null, ...rest] = next;
  replace({ a: first, b: rest });
}

function isSame(a: Place, b: Place): boolean {
  return a.run === b.run && a.key === b.key && compareSteps(a.step, b.step) === 0 && a.index === b.index;
}
