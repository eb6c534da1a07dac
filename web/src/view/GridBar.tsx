// The bar above the grid: which run, which keys, which layout, how large.

import type { KeyRow, RunRow } from "../state/api.types";
import { part, push, replace } from "../state/route";
import { LAYOUTS, type Layout, TILE_MAX, TILE_MIN } from "../state/url";
import { Full, Minus, Plus } from "./icons";
import { Button, KeyButton, Link } from "./parts";
import { RunDot } from "./Runs";

const WORDS: Record<Layout, [string, string]> = {
  keys: ["Keys", "All pictures of each key at one step"],
  runs: ["Runs", "Runs beside each other"],
  steps: ["Steps", "All steps of one key"],
};

const shown = {
  key: part("key"),
  lay: part("lay"),
  exact: part("exact"),
  sort: part("sort"),
  index: part("index"),
};

interface GridBarProps {
  runs: readonly string[];
  rows: readonly RunRow[];
  keys: readonly { run: string; row: KeyRow }[];
  side: number;
}

export function GridBar({ runs, rows, keys, side }: GridBarProps) {
  const lay = shown.lay.value;
  const choose = (to: Layout) => {
    const first = keys[0]?.row.key;
    // A contact sheet shows one key: the first one, until another is chosen.
    push(to === "steps" && first !== undefined ? { lay: to, key: first } : { lay: to });
  };
  return (
    <div class="bar" role="toolbar" aria-label="View">
      <nav class="bar-runs" aria-label="Runs">
        <Link to={{ run: [...runs] }} class="muted" title="All runs: choose others">
          Runs
        </Link>
        <span class="bar-slash" aria-hidden="true">
          /
        </span>
        <RunNames runs={runs} rows={rows} />
      </nav>
      <div class="segmented" role="group" aria-label="Layout">
        {LAYOUTS.map((one) => (
          <Button key={one} aria-pressed={one === lay} title={WORDS[one][1]} onClick={() => choose(one)}>
            {WORDS[one][0]}
          </Button>
        ))}
      </div>
      <KeyFilter keys={keys} />
      <div class="bar-end">
        {lay !== "runs" && <Order isSheet={lay === "steps"} />}
        {(lay === "runs" || (lay === "steps" && shown.sort.value === "")) && <Index keys={keys} />}
        {lay !== "steps" && (
          <KeyButton name="exact" kind="plain" pressed={shown.exact.value}>
            Exact step
          </KeyButton>
        )}
        <div class="sizes">
          <KeyButton name="smaller" kind="plain" icon>
            <Minus />
          </KeyButton>
          <input
            type="range"
            class="range"
            aria-label="Tile size"
            aria-valuetext={`${side} pixels`}
            min={TILE_MIN}
            max={TILE_MAX}
            step={16}
            value={side}
            onInput={(event) => replace({ size: Number(event.currentTarget.value) })}
          />
          <KeyButton name="larger" kind="plain" icon>
            <Plus />
          </KeyButton>
        </div>
        <FullScreen />
      </div>
    </div>
  );
}

function RunNames({ runs, rows }: { runs: readonly string[]; rows: readonly RunRow[] }) {
  if (runs.length > 1) return <span>{runs.length} runs</span>;
  const [run = ""] = runs;
  const row = rows.find((one) => one.run === run);
  return (
    <span class="bar-run" title={row?.source ?? run}>
      <RunDot run={run} />
      <strong class="cut">
        <bdi>{row?.name ?? run}</bdi>
      </strong>
    </span>
  );
}

function KeyFilter({ keys }: { keys: readonly { run: string; row: KeyRow }[] }) {
  const names = [...new Set(keys.map(({ row }) => row.key))].slice(0, 200);
  return (
    <>
      <input
        class="field key-filter"
        type="search"
        aria-label="Keys"
        placeholder="All keys, such as val/*"
        list="key-names"
        spellcheck={false}
        autocomplete="off"
        value={shown.key.value}
        onInput={(event) => replace({ key: event.currentTarget.value.trim() })}
      />
      <datalist id="key-names">
        {names.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
    </>
  );
}

const ORDERS: [string, string][] = [
  ["", "By index"],
  ["caption", "By caption"],
  ["-nan", "Most NaN first"],
  ["-max", "Greatest first"],
  ["min", "Least first"],
];

function Order({ isSheet }: { isSheet: boolean }) {
  return (
    <select
      class="field"
      aria-label="Order"
      value={shown.sort.value}
      onChange={(event) => replace({ sort: event.currentTarget.value })}
    >
      {ORDERS.map(([value, words]) => (
        <option key={value} value={value}>
          {isSheet && value === "" ? "By step" : words}
        </option>
      ))}
    </select>
  );
}

/** Which image of each step is shown. */
function Index({ keys }: { keys: readonly { run: string; row: KeyRow }[] }) {
  const most = keys.reduce((max, { row }) => Math.max(max, row.indices), 1);
  if (most <= 1) return null;
  const index = shown.index.value;
  const go = (to: number) => replace({ index: Math.min(most - 1, Math.max(0, to)) });
  return (
    <div class="index num">
      <Button
        kind="plain"
        icon
        aria-label="Previous index"
        disabled={index <= 0}
        onClick={() => go(index - 1)}
      >
        ‹
      </Button>
      <span>
        <span class="muted">index</span> {index} <span class="muted">of {most.toLocaleString("en")}</span>
      </span>
      <Button
        kind="plain"
        icon
        aria-label="Next index"
        disabled={index >= most - 1}
        onClick={() => go(index + 1)}
      >
        ›
      </Button>
    </div>
  );
}

function FullScreen() {
  return (
    <KeyButton name="fullscreen" kind="plain" icon>
      <Full />
    </KeyButton>
  );
}
