import { useComputed, useSignal } from "@preact/signals";
import { useCallback, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import "./Grid.css";
import { Painter } from "../picture/painter";
import { type ApiError, apiUrl } from "../state/api";
import type { Item, RunRow, Runs } from "../state/api.types";
import { Catalogue, cellName } from "../state/catalogue";
import { onChanged } from "../state/live";
import { Player } from "../state/player";
import { px } from "../state/px";
import { useAnswer } from "../state/resource";
import { CompareTray } from "./CompareTray";
import { GridBar } from "./GridBar";
import { useGridKeys } from "./gridKeys";
import {
  fittingSide,
  GAP,
  keysOf,
  room,
  type ShownKey,
  shown,
  side,
  totalOf,
  useFacts,
  usePainting,
  useTracks,
} from "./gridState";
import { KeyHead } from "./KeyHead";
import {
  columnsOf,
  type Heights,
  itemsSheet,
  keysSheet,
  pictureHeight,
  runsSheet,
  type Shape,
  type Sheet,
  SQUARE,
  stepsSheet,
} from "./layouts";
import { useOrder } from "./order";
import { Empty, ErrorNote, Link, Skeleton } from "./parts";
import { RunHeads } from "./RunHeads";
import { Scroll, type Scroller } from "./Scroll";
import { Slider } from "./Slider";
import { useSheetCursor, useSheetFacts, useSortedItems } from "./sheet";
import { GridContext, type GridState, Tile } from "./Tile";

const PADDING = 16;

export function Grid() {
  const runs = shown.run.value;
  const { value, error } = useAnswer<Runs>(runs.length === 0 ? null : apiUrl("runs", { run: runs }));
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
  return <Sheets key={runs.join("\n")} runs={runs} rows={value?.runs ?? []} error={error} />;
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
  // Requests start before the browser paints, which takes longer than their answers.
  useLayoutEffect(() => {
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

  if (catalogue.error.value && !isKnown) {
    return (
      <>
        <ErrorNote error={catalogue.error.value} />
        <Empty title="There is nothing to show">
          <Link to={{}} class="button is-main">
            All runs
          </Link>
        </Empty>
      </>
    );
  }
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
          <Body
            runs={runs}
            rows={rows}
            keys={keys}
            at={at}
            catalogue={catalogue}
            player={player}
            grid={grid}
          />
        )}
        <CompareTray />
        <Slider player={player} />
      </div>
    </GridContext.Provider>
  );
}

interface BodyProps {
  runs: readonly string[];
  rows: readonly RunRow[];
  keys: readonly ShownKey[];
  at: ReadonlyMap<string, readonly Item[]> | undefined;
  catalogue: Catalogue;
  player: Player;
  grid: GridState;
}

function Body({ runs, rows, keys, at, catalogue, player, grid }: BodyProps) {
  const [lay, index, sort] = [shown.lay.value, shown.index.value, shown.sort.value];
  const element = useRef<HTMLDivElement>(null);
  const scroller = useRef<Scroller>(null);
  const heads = useRef<HTMLDivElement>(null);
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

  const shapes = useShapes(grid);
  const size = side.value;
  const names = keys.map(({ run, row }) => cellName(run, row.key)).join();
  const columnsIn = (size: number) => (lay === "runs" ? runs.length : columnsOf(width, size, GAP));
  const columns = columnsIn(size);
  const first = keys[0];
  const tracks = catalogue.tracks.value;
  const list = lay === "steps" && first ? tracks.get(cellName(first.run, first.row.key))?.shown : undefined;
  const [load, isReady] = useSheetFacts(grid, lay === "steps" ? first : undefined, list);
  const inOrder = useSortedItems(grid, lay === "steps" ? first : undefined, sort);
  const sheetOf = (size: number): Sheet | null => {
    const columns = columnsIn(size);
    const heights: Heights = { heads: 32, side: size, foot: 22 + GAP + 6, line: 16 };
    const shapeOf = (key: string) => shapes.get(key) ?? SQUARE;
    if (lay === "steps" && sort !== "") {
      const items = inOrder?.map(({ run, key, step, index }) => {
        return { run, key: key ?? "", index: index ?? 0, fixed: step };
      });
      return items && first ? itemsSheet(items, columns, shapeOf(first.row.key), heights) : null;
    }
    if (lay === "steps") {
      return first && list && isReady
        ? stepsSheet(first.run, first.row.key, index, list, columns, shapeOf(first.row.key), heights)
        : null;
    }
    if (!at) return null;
    const count = (run: string, key: string) => at.get(cellName(run, key))?.length ?? 0;
    if (lay === "runs") {
      const pairs = new Set(keys.map(({ run, row }) => cellName(run, row.key)));
      const names = sharedFirst(keys).map((key) => ({ key, shape: shapeOf(key) }));
      return runsSheet(runs, names, index, (run, key) => pairs.has(cellName(run, key)), heights);
    }
    const groups = keys.map(({ run, row: { key } }) => {
      return { run, key, n: Math.max(1, count(run, key)), shape: shapeOf(key) };
    });
    return keysSheet(groups, columns, heights);
  };
  // Once for some keys: what is looked at never changes its size by itself.
  const isThere = width > 0 && at !== undefined;
  useLayoutEffect(() => {
    if (!isThere || lay !== "keys") return;
    const height = (element.current?.clientHeight ?? 0) - 2 * PADDING;
    const isFitting = (size: number) => (sheetOf(size)?.rows.total ?? 0) <= height;
    fittingSide.value = [256, 224, 192].find(isFitting) ?? 160;
  }, [isThere, lay, names]);
  const sheet = useMemo(
    () => (width > 0 ? sheetOf(size) : null),
    [lay, sort, index, at, list, inOrder, columns, width, size, shapes, isReady, runs, names],
  );

  useGridKeys(sheet, grid, scroller);
  useSheetCursor(player, sort === "" ? sheet : null, list, scroller);
  const seen = useCallback(
    (from: number, to: number) => {
      if (!sheet) return;
      if (lay === "steps" && sort !== "") return;
      if (lay === "steps") {
        load(from * columns, Math.min(list?.length ?? 0, to * columns));
        return;
      }
      for (let row = from; row < to; row++) {
        const one = sheet.row(row);
        if (one.kind === "tiles") for (const tile of one.tiles) if (tile) catalogue.want(tile.run, tile.key);
      }
    },
    [sheet],
  );
  const order = useOrder(lay === "keys" ? sort : "", at);
  const rowOf = (run: string, key: string) =>
    keys.find((one) => (run === "" || one.run === run) && one.row.key === key);
  return (
    <div class="grid-body" ref={element} style={{ "--side": px(size) }}>
      {lay === "runs" && <RunHeads runs={runs} rows={rows} side={size} element={heads} />}
      {!sheet ? (
        <Waiting />
      ) : (
        <Scroll
          rows={sheet.rows}
          idOf={(row) => sheet.row(row).id}
          find={sheet.find}
          scroller={scroller}
          memory={[lay, sort, shown.key.value, ...runs].join("\n")}
          label={lay === "steps" ? `All steps of ${first?.row.key ?? ""}` : "Pictures"}
          padding={PADDING}
          columns={columns}
          shown={seen}
          sideways={(left) => {
            if (heads.current) heads.current.scrollLeft = left;
          }}
          render={(at) => {
            const row = sheet.row(at);
            if (row.kind === "heads") {
              return row.heads.map(({ run, key, span }) => {
                const of = rowOf(run, key);
                const width = span * (size + GAP) - GAP;
                const hasRun = lay === "keys" && runs.length > 1;
                return (
                  of && <KeyHead key={run + key} run={of.run} row={of.row} width={width} hasRun={hasRun} />
                );
              });
            }
            const missing = { width: px(size), height: px(pictureHeight(row.shape, size)) };
            return row.tiles.map((spec, column) =>
              spec ? (
                <Tile
                  key={spec.id}
                  spec={{ ...spec, index: order(spec.run, spec.key, spec.index) }}
                  side={size}
                  height={pictureHeight(row.shape, size)}
                  column={column}
                />
              ) : (
                <div key={column} class="tile is-missing" role="gridcell" style={missing} />
              ),
            );
          }}
        />
      )}
    </div>
  );
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

/** What the tiles of each key need room for. It only grows, so that nothing jumps. */
function useShapes(grid: GridState): ReadonlyMap<string, Shape> {
  const known = useRef<ReadonlyMap<string, Shape>>(new Map());
  return useComputed(() => {
    const shapes = new Map(known.current);
    for (const { key, caption, width, height } of grid.facts.value.values()) {
      if (key === null) continue;
      const before = shapes.get(key) ?? { caption: 0, aspect: 0 };
      const aspect = width && height ? Math.min(1, height / width) : 1;
      shapes.set(key, {
        caption: Math.max(before.caption, caption?.length ?? 0),
        aspect: Math.max(before.aspect, aspect),
      });
    }
    const isSame = JSON.stringify([...shapes]) === JSON.stringify([...known.current]);
    if (!isSame) known.current = shapes;
    return known.current;
  }).value;
}

/** The keys by name, those that most runs have first. */
function sharedFirst(keys: readonly ShownKey[]): string[] {
  const counts = new Map<string, number>();
  for (const { row } of keys) counts.set(row.key, (counts.get(row.key) ?? 0) + 1);
  return [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).map(([key]) => key);
}
