import { useSignal } from "@preact/signals";
import { useMemo, useRef } from "preact/hooks";
import "./Runs.css";
import { ago } from "../state/ago";
import type { RunRow } from "../state/api.types";
import { useKeys } from "../state/keys";
import { part, push, replace } from "../state/route";
import { equalRows } from "../state/rows";
import { type RunList, useRuns } from "../state/runs";
import { say } from "../state/say";
import { formatStep } from "../state/steps";
import { formatPlace, START } from "../state/url";
import { Down, Up } from "./icons";
import { Button, Command, Empty, ErrorNote, Link, Skeleton } from "./parts";
import { runColor } from "./runColor";
import { Scroll, type Scroller } from "./Scroll";

const CHOSEN_MAX = 8;
const ROW = 56;
const shown = { q: part("q"), sort: part("sort"), run: part("run") };

/** The colour of a run. */
export function RunDot({ run }: { run: string }) {
  return <span class="dot" aria-hidden="true" style={{ background: runColor(run) }} />;
}

/** The columns: what they are sorted by, and what they are called. */
const COLUMNS: [string, string][] = [
  ["name", "Run"],
  ["image", "Images"],
  ["held", "Held"],
  ["rejected", "Rejected"],
  ["pruned", "Pruned"],
  ["step", "Last step"],
  ["changed", "Last change"],
];
/** The orders that the gallery knows. */
const ORDERS = COLUMNS.flatMap(([column]) => [column, `-${column}`]);
/** How many rows before the last one the next ones are asked for. */
const AHEAD = 50;

export function Runs() {
  const asked = shown.sort.value;
  const sort = ORDERS.includes(asked) ? asked : "-changed";
  const { list, error, more } = useRuns(shown.q.value, sort);
  if (list?.all === 0) return <NoRuns />;
  return (
    <div class="runs">
      <RunsBar list={list} />
      {error && <ErrorNote error={error} />}
      {list ? <Table list={list} sort={sort} more={more} /> : !error && <Waiting />}
    </div>
  );
}

function RunsBar({ list }: { list: RunList | undefined }) {
  const [n, all] = [list?.matching, list?.all].map((n) => n?.toLocaleString("en"));
  const chosen = shown.run.value;
  return (
    <div class="bar">
      <h1>Runs</h1>
      <span class="muted num">{n === all ? all : `${n} of ${all}`}</span>
      <input
        class="field key-filter"
        type="search"
        aria-label="Filter runs"
        placeholder="Filter by name"
        spellcheck={false}
        value={shown.q.value}
        onInput={(event) => replace({ q: event.currentTarget.value })}
      />
      <div class="bar-end">
        {chosen.length > 0 ? (
          <>
            <span class="muted">{chosen.length} chosen</span>
            <Button onClick={() => replace({ run: [] })}>Clear</Button>
            <Button
              kind="main"
              onClick={() =>
                push({ ...START, page: "grid", run: chosen, lay: chosen.length > 1 ? "runs" : "keys" })
              }
            >
              {chosen.length > 1 ? "Show beside each other" : "Open"}
            </Button>
          </>
        ) : (
          <span class="muted">Open a run, or choose up to {CHOSEN_MAX} to see them beside each other</span>
        )}
      </div>
    </div>
  );
}

interface TableProps {
  list: RunList;
  sort: string;
  /** Asks for the rows behind the last one. */
  more: () => void;
}

function Table({ list, sort, more }: TableProps) {
  const { rows, matching } = list;
  const selected = useSignal<string | null>(null);
  const scroller = useRef<Scroller>(null);
  // Another list of the same length may have more runs behind it: `shown` is called for it.
  const heights = useMemo(() => equalRows(rows.length, ROW), [rows]);
  const select = (by: number) => {
    const at = rows.findIndex(({ run }) => run === selected.value);
    const to = at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by));
    scroller.current?.reveal(to);
    selected.value = rows[to]?.run ?? null;
  };
  useKeys({
    up: () => select(-1),
    down: () => select(1),
    open: () => {
      if (selected.value !== null) push({ ...START, page: "grid", run: [selected.value] });
    },
  });
  if (rows.length === 0) {
    return (
      <Empty title="No run matches">
        <p>
          No run's id, name or directory has <code>{shown.q.value}</code> in it.
        </p>
        <Button onClick={() => replace({ q: "" })}>Show all runs</Button>
      </Empty>
    );
  }
  return (
    <div class="runs-table">
      <Heads sort={sort} />
      <Scroll
        rows={heights}
        idOf={(at) => rows[at]?.run ?? ""}
        find={(id) => rows.findIndex(({ run }) => run === id)}
        scroller={scroller}
        label="Runs"
        memory="runs"
        padding={0}
        columns={COLUMNS.length + 2}
        rowCount={matching}
        shown={(_, to) => {
          if (to > rows.length - AHEAD) more();
        }}
        render={(at) => {
          const row = rows[at];
          return row && <Row row={row} isSelected={selected.value === row.run} />;
        }}
      />
    </div>
  );
}

function Heads({ sort }: { sort: string }) {
  return (
    <div class="runs-row runs-heads">
      <span />
      <span />
      {COLUMNS.map(([column, words]) => {
        const isUp = sort === column;
        const isSorted = isUp || sort === `-${column}`;
        // Numbers are sorted from the greatest first, names from the first.
        const next = isSorted ? (isUp ? `-${column}` : column) : column === "name" ? column : `-${column}`;
        return (
          <button
            key={column}
            type="button"
            class={column === "name" ? "runs-head" : "runs-head is-number"}
            aria-pressed={isSorted}
            title={`Sort by ${words.toLowerCase()}`}
            onClick={() => replace({ sort: next })}
          >
            {words}
            {isSorted && (isUp ? <Up /> : <Down />)}
          </button>
        );
      })}
    </div>
  );
}

function Row({ row, isSelected }: { row: RunRow; isSelected: boolean }) {
  const chosen = shown.run.value;
  const isChosen = chosen.includes(row.run);
  const choose = () => {
    if (!isChosen && chosen.length >= CHOSEN_MAX) say(`At most ${CHOSEN_MAX} runs stand beside each other`);
    else replace({ run: isChosen ? chosen.filter((run) => run !== row.run) : [...chosen, row.run] });
  };
  const name = row.name ?? row.run;
  const counted = (n: number) => (row.counted ? n : null);
  return (
    <div class="runs-row" data-selected={isSelected ? "" : undefined}>
      <span role="gridcell" class="runs-choose">
        <input type="checkbox" aria-label={`Choose ${name}`} checked={isChosen} onChange={choose} />
      </span>
      <span role="gridcell" class="runs-thumb">
        <Thumb row={row} />
      </span>
      <span role="gridcell" class="runs-name">
        <Link to={{ page: "grid", run: [row.run] }} class="runs-link cut" title={row.source}>
          <RunDot run={row.run} />
          <bdi class="cut">{name}</bdi>
          {row.finished && <span class="chip">finished</span>}
        </Link>
        <span class="runs-id cut muted">
          <bdi>{row.name === null ? row.source : row.run}</bdi>
        </span>
      </span>
      <Count of={counted(row.image)} />
      <Count of={counted(row.held)} kind="is-held" search={`state:held run:${quoted(row.run)}`} sign="◆" />
      <Count
        of={counted(row.rejected)}
        kind="is-rejected"
        search={`state:rejected run:${quoted(row.run)}`}
        sign="✕"
      />
      <Count of={counted(row.pruned)} />
      <span
        role="gridcell"
        class="is-number num cut"
        title={row.last_step === null ? "" : formatStep(row.last_step)}
      >
        {row.last_step === null ? "–" : formatStep(row.last_step)}
      </span>
      <span role="gridcell" class="is-number num muted">
        {row.changed === null ? "–" : <Ago at={row.changed} />}
      </span>
    </div>
  );
}

/** A word of a search. */
function quoted(text: string): string {
  return /[\s"'\\]/.test(text) ? `"${text.replace(/(["\\])/g, "\\$1")}"` : text;
}

interface CountProps {
  /** Null if it is not known yet. */
  of: number | null;
  kind?: string;
  search?: string;
  sign?: string;
}

/** A count; nothing stands for 0, so that others are seen. */
function Count({ of, kind, search, sign }: CountProps) {
  if (of === null) {
    return (
      <span role="gridcell" class="is-number muted" title="Counted when the run is opened">
        –
      </span>
    );
  }
  const words = of.toLocaleString("en");
  return (
    <span role="gridcell" class="is-number num">
      {of === 0 ? (
        <span class="runs-none">0</span>
      ) : search ? (
        <Link to={{ page: "search", q: search }} class={`chip ${kind}`}>
          <span aria-hidden="true">{sign}</span>
          {words}
        </Link>
      ) : (
        words
      )}
    </span>
  );
}

function Ago({ at }: { at: number }) {
  return <time title={new Date(at * 1000).toLocaleString()}>{ago(Date.now() / 1000 - at)}</time>;
}

function Thumb({ row }: { row: RunRow }) {
  const { newest } = row;
  if (!newest) return <span class="runs-no-thumb" />;
  const query = formatPlace({ run: row.run, key: newest.key, step: newest.step, index: newest.index });
  return (
    <img
      src={`/t/128/${newest.sha20}?${query}`}
      class={Math.max(newest.width, newest.height) <= 44 ? "is-pixelated" : ""}
      alt={`${newest.key}, step ${formatStep(newest.step)}`}
      width={44}
      height={44}
      loading="lazy"
      decoding="async"
    />
  );
}

function Waiting() {
  return (
    <div class="runs-waiting">
      {Array.from({ length: 8 }, (_, at) => (
        <Skeleton key={at} height={ROW - 12} />
      ))}
    </div>
  );
}

function NoRuns() {
  return (
    <Empty title="No runs yet">
      <p>
        Safelight shows a run as soon as its directory is watched and the first dump is read. To try it with
        the example, run:
      </p>
      <Command line="safelight ingest examples/digits/run" />
      <p class="muted">A run that is being written appears here by itself.</p>
    </Empty>
  );
}
