// The rows of the grid's three layouts. Pure.

import type { StepNumber } from "../state/api.types";
import { equalRows, type Rows, variedRows } from "../state/rows";
import type { StepList } from "../state/steps";

/** One tile. */
export interface TileSpec {
  id: string;
  run: string;
  key: string;
  index: number;
  /** Its own step; null if it follows the cursor. */
  fixed: StepNumber | null;
}

/** The head of a key, above its first tile. */
export interface Head {
  run: string;
  key: string;
  /** The tiles that it stands above. */
  span: number;
}

/** What the tiles of a key need room for. */
export interface Shape {
  /** The length of the longest caption in characters. */
  caption: number;
  /** The height of the highest picture, as a share of the tile's width; at most 1. */
  aspect: number;
}

/** The heads of keys, or some tiles. */
export type Row =
  | { kind: "heads"; id: string; heads: Head[] }
  | { kind: "tiles"; id: string; tiles: (TileSpec | null)[]; shape: Shape };

/** The rows of a layout. */
export interface Sheet {
  rows: Rows;
  row(at: number): Row;
  /** The row with an id, or the one that has what the id's row began with. */
  find(id: string): number;
  /** The row and column of a tile. */
  locate(tile: string): [number, number] | null;
}

/** Heights in pixels. */
export interface Heights {
  heads: number;
  /** The width of a tile. */
  side: number;
  /** The step below a picture, and the gap between rows. */
  foot: number;
  /** A line of a caption. */
  line: number;
}

/** A key of a run, and how many tiles it has. */
export interface Group {
  run: string;
  key: string;
  n: number;
  shape: Shape;
}

/** The shape of a key of which nothing is known. */
export const SQUARE: Shape = { caption: 0, aspect: 1 };

/** The height of a picture's place. */
export function pictureHeight({ aspect }: Shape, side: number): number {
  return Math.max(16, Math.round(side * aspect));
}

/** The width of a character of a caption in pixels, a little more than it is on average. */
const CHARACTER = 6.5;
const LINES_MAX = 2;

function tileHeight(shape: Shape, { side, foot, line }: Heights): number {
  const lines = Math.min(LINES_MAX, Math.ceil((shape.caption * CHARACTER) / side));
  return pictureHeight(shape, side) + foot + lines * line;
}

/** The shape with room for all of several. */
function together(shapes: readonly Shape[]): Shape {
  return {
    caption: Math.max(...shapes.map(({ caption }) => caption)),
    aspect: Math.max(...shapes.map(({ aspect }) => aspect)),
  };
}

/** The tile of a cell. */
export function tileOf(run: string, key: string, index: number): TileSpec {
  return { id: JSON.stringify([run, key, index]), run, key, index, fixed: null };
}

/** The layout `keys`: each key's indices. Keys whose tiles fit into one row together share it. */
export function keysSheet(groups: readonly Group[], columns: number, heights: Heights): Sheet {
  const rows: Row[] = [];
  let band: Group[] = [];
  const flush = () => {
    const [first] = band;
    if (!first) return;
    const heads = band.map(({ run, key, n }) => ({ run, key, span: Math.min(n, columns) }));
    rows.push({ kind: "heads", id: JSON.stringify([first.run, first.key]), heads });
    const tiles = band.flatMap(({ run, key, n }) => {
      return Array.from({ length: n }, (_, index) => tileOf(run, key, index));
    });
    const shape = together(band.map((group) => group.shape));
    for (const some of chunks(tiles, columns)) {
      rows.push({ kind: "tiles", id: some[0]?.id ?? "", tiles: some, shape });
    }
    band = [];
  };
  for (const group of groups) {
    const used = band.reduce((sum, { n }) => sum + n, 0);
    if (used + group.n > columns) flush();
    band.push(group);
  }
  flush();
  return listed(rows, heights);
}

/** The layout `runs`: a row for each key, a column for each run. `has` says whether a run has a key. */
export function runsSheet(
  runs: readonly string[],
  keys: readonly { key: string; shape: Shape }[],
  index: number,
  has: (run: string, key: string) => boolean,
  heights: Heights,
): Sheet {
  const rows = keys.flatMap(({ key, shape }): Row[] => {
    const id = JSON.stringify(["", key]);
    const tiles = runs.map((run) => (has(run, key) ? tileOf(run, key, index) : null));
    return [
      { kind: "heads", id, heads: [{ run: "", key, span: runs.length }] },
      { kind: "tiles", id: `${id} tiles`, tiles, shape },
    ];
  });
  return listed(rows, heights);
}

/** The layout `steps`: all steps of one key. */
export function stepsSheet(
  run: string,
  key: string,
  index: number,
  list: StepList,
  columns: number,
  shape: Shape,
  heights: Heights,
): Sheet {
  const count = Math.ceil(list.length / columns);
  const tile = (place: number): TileSpec => {
    return { id: String(place), run, key, index, fixed: list.at(place) };
  };
  return {
    rows: equalRows(count, tileHeight(shape, heights)),
    row(at) {
      const n = Math.min(columns, list.length - at * columns);
      const tiles = Array.from({ length: Math.max(0, n) }, (_, column) => tile(at * columns + column));
      return { kind: "tiles", id: String(at * columns), tiles, shape };
    },
    find: (id) => Math.floor(Number(id) / columns),
    locate(id) {
      const place = Number(id);
      return place < list.length ? [Math.floor(place / columns), place % columns] : null;
    },
  };
}

/** A contact sheet of items in any order. */
export function itemsSheet(
  items: readonly Pick<TileSpec, "run" | "key" | "index" | "fixed">[],
  columns: number,
  shape: Shape,
  heights: Heights,
): Sheet {
  const tiles = items.map((item, place) => ({ ...item, id: String(place) }));
  const rows = chunks(tiles, columns).map((some): Row => {
    return { kind: "tiles", id: some[0]?.id ?? "", tiles: some, shape };
  });
  return listed(rows, heights);
}

function listed(rows: readonly Row[], heights: Heights): Sheet {
  const height = (row: Row) => {
    return row.kind === "heads" ? heights.heads : tileHeight(row.shape, heights);
  };
  const places = new Map<string, [number, number]>();
  rows.forEach((row, at) => {
    if (row.kind === "heads") return;
    row.tiles.forEach((tile, column) => {
      if (tile) places.set(tile.id, [at, column]);
    });
  });
  const byId = new Map(rows.map((row, at) => [row.id, at]));
  return {
    rows: variedRows(rows.map(height)),
    row: (at) => rows[at] ?? { kind: "tiles", id: "", tiles: [], shape: SQUARE },
    find: (id) => byId.get(id) ?? places.get(id)?.[0] ?? -1,
    locate: (id) => places.get(id) ?? null,
  };
}

/** How many tiles stand in a row. */
export function columnsOf(width: number, side: number, gap: number): number {
  return Math.max(1, Math.floor((width + gap) / (side + gap)));
}

/** The tile that is reached from another one by a move; the first tile without one. */
export function moved(sheet: Sheet, from: string | null, by: [number, number]): TileSpec | null {
  const at = from === null ? null : sheet.locate(from);
  if (!at) return firstFrom(sheet, 0, 1, 0);
  const [row, column] = at;
  if (by[1] !== 0) {
    const tiles = tilesOf(sheet, row);
    for (let c = column + by[1]; c >= 0 && c < tiles.length; c += by[1])
      if (tiles[c]) return tiles[c] ?? null;
    return firstFrom(sheet, row + by[1], by[1], by[1] > 0 ? 0 : Number.MAX_SAFE_INTEGER);
  }
  return firstFrom(sheet, row + by[0], by[0], column);
}

function tilesOf(sheet: Sheet, at: number): (TileSpec | null)[] {
  const row = sheet.row(at);
  return row.kind === "tiles" ? row.tiles : [];
}

function firstFrom(sheet: Sheet, from: number, by: number, column: number): TileSpec | null {
  for (let at = from; at >= 0 && at < sheet.rows.count; at += by) {
    const tiles = tilesOf(sheet, at);
    for (let c = Math.min(column, tiles.length - 1); c >= 0; c--) if (tiles[c]) return tiles[c] ?? null;
    const other = tiles.find((tile) => tile !== null);
    if (other) return other;
  }
  return null;
}

function chunks<T>(list: readonly T[], size: number): T[][] {
  const parts: T[][] = [];
  for (let at = 0; at < list.length; at += size) parts.push(list.slice(at, at + size));
  return parts;
}
