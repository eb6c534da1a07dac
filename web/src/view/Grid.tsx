import { computed, signal, useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import "./Grid.css";
import { Painter } from "../picture/painter";
import { ApiError, apiUrl, ask, isAborted, sha20 } from "../state/api";
import type { At, Item, KeyRow, RunRow, StepNumber } from "../state/api.types";
import { Catalogue, cellName } from "../state/catalogue";
import { asGlob, matchesTyped } from "../state/glob";
import { useKeys } from "../state/keys";
import { onChanged, refreshed, runsVersion } from "../state/live";
import { Player } from "../state/player";
import { px } from "../state/px";
import { useAnswer } from "../state/resource";
import { part, push, replace, view } from "../state/route";
import { say } from "../state/say";
import { compareSteps, StepUnion } from "../state/steps";
import { type Place, START, TILE_MAX, TILE_MIN } from "../state/url";
import { CompareTray } from "./CompareTray";
import { GridBar } from "./GridBar";
import { KeyHead } from "./KeyHead";
import { columnsOf, type Heights, keysSheet, moved, runsSheet, type Sheet, stepsSheet } from "./layouts";
import { Empty, ErrorNote, Link, Skeleton } from "./parts";
import { RunHeads } from "./RunHeads";
import { Scroll, type Scroller } from "./Scroll";
import { Slider } from "./Slider";
import { GridContext, type GridState, itemView, Tile } from "./Tile";

/** Keys whose steps are on the slider from the start; those of others are added when they are seen. */
const TRACKS_AT_ONCE = 64;
const GAP = 12;
const PADDING = 16;
/** How long the cursor rests before captions are asked for. */
const REST_MS = 120;

const shown = {
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
const room = signal(0);
/** The side of a tile in pixels: as chosen, or as the layout suggests. */
const side = computed(() => {
  if (shown.size.value !== 0) return shown.size.value;
  if (shown.lay.value === "keys") return 160;
  if (shown.lay.value === "steps") return 96;
  const n = Math.max(1, shown.run.value.length);
  return Math.min(320, Math.max(128, Math.floor((room.value + GAP) / n) - GAP));
});

export function Grid() {
  const runs = shown.run.value;
  const { value, error } = useAnswer<RunRow[]>(runs.length === 0 ? null : apiUrl("runs"), runsVersion.value);
  if (runs.length === 0) {
    return (
      <Empty title="No run is chosen">
        <p>Choose one or several on the page of all runs.</p>
        <Link to={{}} class="button is-main">
          All runs
        </Link>
      </Empty>
    );
  }
  return <Sheets key={runs.join("\n")} runs={runs} rows={value ?? []} error={error} />;
}

interface SheetsProps {
  runs: readonly string[];
  rows: readonly RunRow[];
  error: ApiError | undefined;
}

function Sheets({ runs, rows, error }: SheetsProps) {
  const catalogue = useMemo(() => new Catalogue(), []);
  const total = useComputed(() => totalOf(runs, catalogue.keys.value, shown.key.value));
  const player = useMemo(() => new Player(total), []);
  const facts = useSignal<ReadonlyMap<string, Item>>(new Map());
  const selected = useSignal<string | null>(null);
  const grid = useMemo<GridState>(() => ({ painter: new Painter(), facts, selected, drawn: new Map() }), []);
  useEffect(() => {
    catalogue.show(runs);
    const end = onChanged((changes) => {
      for (const { run, key } of changes) grid.painter.keyChanged(run, key);
    });
    return () => {
      end();
      player.close();
      catalogue.close();
      grid.painter.close();
    };
  }, []);

  const keys = keysOf(runs, catalogue.keys.value, shown.key.value, shown.lay.value);
  const isKnown = runs.every((run) => catalogue.keys.value.has(run));
  useTracks(catalogue, player, runs, keys, shown.lay.value);
  const at = useFacts(grid, runs, keys);
  usePainting(catalogue, player, grid);

  if (catalogue.error.value && !isKnown) return <ErrorNote error={catalogue.error.value} />;
  return (
    <GridContext.Provider value={grid}>
      <div class="grid">
        <GridBar runs={runs} rows={rows} keys={keys} side={side.value} />
        {error && <ErrorNote error={error} />}
        {!isKnown ? (
          <Waiting />
        ) : keys.length === 0 ? (
          <NoKeys />
        ) : (
          <Body runs={runs} rows={rows} keys={keys} at={at} catalogue={catalogue} grid={grid} />
        )}
        <CompareTray />
        <Slider player={player} />
      </div>
    </GridContext.Provider>
  );
}

/** The keys to show, with each run that has them. */
interface ShownKey {
  run: string;
  row: KeyRow;
}

function keysOf(
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

function totalOf(
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
function useTracks(
  catalogue: Catalogue,
  player: Player,
  runs: readonly string[],
  keys: readonly ShownKey[],
  lay: string,
): void {
  const names = keys.map(({ run, row }) => cellName(run, row.key));
  const all = names.join("\n");
  useEffect(() => {
    for (const { run, row } of keys.slice(0, TRACKS_AT_ONCE)) catalogue.want(run, row.key);
  }, [all]);
  const tracks = catalogue.tracks.value;
  useLayoutEffect(() => {
    const known = names.flatMap((name) => tracks.get(name)?.all ?? []);
    player.steps.value = new StepUnion(known);
  }, [all, tracks, runs, lay]);
}

/** Asks for the items at the step where the cursor rests. Returns them by cell, once they are there. */
function useFacts(
  grid: GridState,
  runs: readonly string[],
  keys: readonly ShownKey[],
): ReadonlyMap<string, readonly Item[]> | undefined {
  const [at, setAt] = useState<ReadonlyMap<string, readonly Item[]>>();
  const [lay, typed, asked] = [shown.lay.value, shown.key.value, shown.step.value];
  const isFirst = at === undefined;
  const version = keys.map(({ row }) => `${row.image} ${row.held}`).join();
  const all = refreshed.value;
  useEffect(() => {
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
          say(error instanceof ApiError ? error.problem.detail : String(error));
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

/** Tells the painter what to draw. Nothing is rendered for a step. */
function usePainting(catalogue: Catalogue, player: Player, grid: GridState): void {
  useSignalEffect(() => {
    const digests = new Map<string, { step: StepNumber; sha20: string | null }>();
    for (const [id, { step, sha256, pruned }] of grid.facts.value) {
      if (step !== null) digests.set(id, { step, sha20: sha256 && !pruned ? sha20(sha256) : null });
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

interface BodyProps {
  runs: readonly string[];
  rows: readonly RunRow[];
  keys: readonly ShownKey[];
  at: ReadonlyMap<string, readonly Item[]> | undefined;
  catalogue: Catalogue;
  grid: GridState;
}

function Body({ runs, rows, keys, at, catalogue, grid }: BodyProps) {
  const [lay, index, sort] = [shown.lay.value, shown.index.value, shown.sort.value];
  const element = useRef<HTMLDivElement>(null);
  const scroller = useRef<Scroller>(null);
  const width = room.value;
  useLayoutEffect(() => {
    const div = element.current;
    if (!div) return;
    // The scroll bar is always counted, so that it never changes the number of columns.
    const measure = () => {
      room.value = div.clientWidth - 2 * PADDING - 12;
    };
    const observer = new ResizeObserver(measure);
    observer.observe(div);
    measure();
    return () => observer.disconnect();
  }, []);

  const hasCaptions = useMemo(() => [...grid.facts.value.values()].some(({ caption }) => caption), [at]);
  const size = side.value;
  const heights: Heights = { head: 40, tile: size + 24 + (hasCaptions ? 34 : 0) + GAP, title: 22 };
  const columns = lay === "runs" ? runs.length : columnsOf(width, size, GAP);
  const first = keys[0];
  const tracks = catalogue.tracks.value;
  const list = lay === "steps" && first ? tracks.get(cellName(first.run, first.row.key))?.shown : undefined;
  const sheet = useMemo<Sheet | null>(() => {
    if (width <= 0) return null;
    if (lay === "steps") {
      return first && list ? stepsSheet(first.run, first.row.key, index, list, columns, heights) : null;
    }
    if (!at) return null;
    const count = (run: string, key: string) => at.get(cellName(run, key))?.length ?? 0;
    if (lay === "runs") {
      const names = [...new Set(keys.map(({ row }) => row.key))].sort();
      const pairs = new Set(keys.map(({ run, row }) => cellName(run, row.key)));
      return runsSheet(runs, names, index, (run, key) => pairs.has(cellName(run, key)), heights);
    }
    const groups = keys.map(({ run, row }) => ({ run, key: row.key, n: Math.max(1, count(run, row.key)) }));
    return keysSheet(groups, columns, heights);
  }, [
    lay,
    index,
    at,
    list,
    columns,
    width,
    size,
    hasCaptions,
    runs,
    keys.map(({ run, row }) => run + row.key).join("\n"),
  ]);

  useGridKeys(sheet, grid, scroller);
  const seen = useCallback(
    (from: number, to: number) => {
      if (!sheet || lay === "steps") return;
      for (let row = from; row < to; row++) {
        const one = sheet.row(row);
        if (one.kind === "tiles") for (const tile of one.tiles) if (tile) catalogue.want(tile.run, tile.key);
      }
    },
    [sheet],
  );
  const order = useOrder(sort, at);
  const rowOf = (run: string, key: string) =>
    keys.find((one) => (run === "" || one.run === run) && one.row.key === key);
  return (
    <div class="grid-body" ref={element} style={{ "--side": px(size) }}>
      {lay === "runs" && <RunHeads runs={runs} rows={rows} side={size} />}
      {!sheet ? (
        <Waiting />
      ) : (
        <Scroll
          rows={sheet.rows}
          idOf={(row) => sheet.row(row).id}
          find={sheet.find}
          scroller={scroller}
          label={lay === "steps" ? `All steps of ${first?.row.key ?? ""}` : "Pictures"}
          padding={PADDING}
          columns={columns}
          shown={seen}
          render={(at) => {
            const row = sheet.row(at);
            if (row.kind === "head") {
              const of = rowOf(row.run, row.key);
              return of && <KeyHead run={of.run} row={of.row} hasRun={lay === "keys" && runs.length > 1} />;
            }
            return row.tiles.map((spec, column) =>
              spec ? (
                <Tile
                  key={spec.id}
                  spec={{ ...spec, index: order(spec.run, spec.key, spec.index) }}
                  title={row.hasTitles ? spec.key : null}
                  row={row.hasTitles ? rowOf(spec.run, spec.key)?.row : undefined}
                  side={size}
                  column={column}
                />
              ) : (
                <div key={column} class="tile is-missing" role="gridcell" style={{ width: px(size) }} />
              ),
            );
          }}
        />
      )}
    </div>
  );
}

/** Keys of the keyboard that work on tiles. */
function useGridKeys(sheet: Sheet | null, grid: GridState, scroller: { current: Scroller | null }): void {
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
    const at = id === null ? null : sheet?.locate(id);
    const row = at && sheet?.row(at[0]);
    const spec = row && row.kind === "tiles" ? row.tiles[at[1]] : null;
    const step = id === null ? undefined : grid.drawn.get(id);
    return spec && step !== undefined ? { run: spec.run, key: spec.key, step, index: spec.index } : null;
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
function addToCompare(place: Place | null): void {
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

function useOrder(sort: string, at: ReadonlyMap<string, readonly Item[]> | undefined) {
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
function sorted(items: readonly Item[], sort: string): number[] {
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

function Waiting() {
  const size = side.value;
  return (
    <div class="grid-waiting">
      {Array.from({ length: 12 }, (_, at) => (
        <Skeleton key={at} width={size} height={size} />
      ))}
    </div>
  );
}

function NoKeys() {
  const typed = shown.key.value;
  if (typed !== "") {
    return (
      <Empty title="No key matches">
        <p>
          No key of this run matches <code>{typed}</code>. A word matches any part of a key; <code>*</code>{" "}
          and <code>?</code> match whole keys.
        </p>
        <Link to={{ key: "" }} keep class="button">
          Show all keys
        </Link>
      </Empty>
    );
  }
  return (
    <Empty title="This run has no images yet">
      <p>They appear here as soon as the first dump is read. Rejected dumps are on the page of all runs.</p>
    </Empty>
  );
}
