import type { RunRow } from "../state/api.types";
import { px } from "../state/px";
import { push, view } from "../state/route";
import { Close, Plus } from "./icons";
import { Button, Link } from "./parts";
import { RunDot } from "./Runs";

interface RunHeadsProps {
  runs: readonly string[];
  rows: readonly RunRow[];
  side: number;
  /** The element, which is scrolled sideways with the columns. */
  element: { current: HTMLDivElement | null };
}

const RUNS_MAX = 8;

/** The heads of the runs' columns, with the parameters that differ. */
export function RunHeads({ runs, rows, side, element }: RunHeadsProps) {
  const configs = runs.map((run) => rows.find((row) => row.run === run)?.config ?? {});
  const names = differing(configs);
  const drop = (run: string) => push({ run: view.peek().run.filter((other) => other !== run) });
  return (
    <div class="run-heads" ref={element}>
      {runs.map((run, at) => {
        const row = rows.find((one) => one.run === run);
        return (
          <div key={run} class="run-head" style={{ width: px(side) }}>
            <div class="run-head-name">
              <RunDot run={run} />
              <Link to={{ page: "grid", run: [run] }} class="cut" title={run}>
                <bdi>{row?.name ?? run}</bdi>
              </Link>
              {runs.length > 1 && (
                <Button
                  kind="plain"
                  icon
                  aria-label={`Take away ${row?.name ?? run}`}
                  onClick={() => drop(run)}
                >
                  <Close />
                </Button>
              )}
            </div>
            {names.map((name) => (
              <div key={name} class="run-head-param cut" title={`${name}: ${shortText(configs[at]?.[name])}`}>
                <span class="muted">
                  <bdi>{name}</bdi>
                </span>{" "}
                <code>
                  <bdi>{shortText(configs[at]?.[name])}</bdi>
                </code>
              </div>
            ))}
          </div>
        );
      })}
      {runs.length < RUNS_MAX && (
        <Link
          to={{ run: [...runs] }}
          class="button is-plain run-add"
          title="Choose runs to show beside these"
        >
          <Plus />
          Add a run
        </Link>
      )}
    </div>
  );
}

/** The parameters that are not the same in all runs, in order; at most four. */
export function differing(configs: readonly Record<string, unknown>[]): string[] {
  if (configs.length < 2) return [];
  const names = new Set(configs.flatMap((config) => Object.keys(config)));
  const values = (name: string) => new Set(configs.map((config) => JSON.stringify(config[name])));
  return [...names].filter((name) => values(name).size > 1).slice(0, 4);
}

function shortText(value: unknown): string {
  if (value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}
