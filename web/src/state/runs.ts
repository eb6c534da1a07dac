// The list of runs, as far as it was scrolled.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, apiUrl, ask, isAborted } from "./api";
import type { RunRow, Runs } from "./api.types";
import { refreshed, runsVersion } from "./live";

/** The runs of one request, and those of one that asks for what was seen before. */
const PART = 200;
const PART_AGAIN = 500;

/** Runs in the order that was asked for: the first ones, or all. */
export interface RunList {
  readonly rows: readonly RunRow[];
  /** How many match, and how many the store has. */
  readonly matching: number;
  readonly all: number;
  /** Where the list goes on; null at its end. */
  readonly next: string | null;
}

/** What was listed last: a page that is returned to shows it at once. */
let last: { of: string; list: RunList } | undefined;

/** The list with another part behind it. A run that has moved meanwhile stays where it was seen. */
export function joined(list: RunList | undefined, { runs, matching, all, next }: Runs): RunList {
  const known = new Set(list?.rows.map(({ run }) => run));
  const rows = [...(list?.rows ?? []), ...runs.filter(({ run }) => !known.has(run))];
  return { rows, matching, all, next };
}

/** Lists runs that have the words of `q`, in an order such as `-changed`. `more` asks for the next ones. */
export function useRuns(
  q: string,
  order: string,
): { list: RunList | undefined; error: ApiError | undefined; more: () => void } {
  const of = JSON.stringify([q, order]);
  const [state, setState] = useState<{ of: string; list: RunList | undefined; error: ApiError | undefined }>({
    of,
    list: last?.of === of ? last.list : undefined,
    error: undefined,
  });
  const more = useRef<() => void>(() => {});
  const version = runsVersion.value + refreshed.value;
  useEffect(() => {
    const abort = new AbortController();
    const follow = async (ask: () => Promise<RunList>) => {
      more.current = () => {};
      try {
        const list = await ask();
        last = { of, list };
        setState({ of, list, error: undefined });
        if (list.next !== null) more.current = () => void follow(() => part(q, order, list, abort.signal));
      } catch (error) {
        if (abort.signal.aborted || isAborted(error) || !(error instanceof ApiError)) return;
        more.current = () => void follow(ask);
        setState((before) => ({ of, list: before.list, error }));
      }
    };
    // Another version of the same list has all that was seen.
    const n = last?.of === of ? last.list.rows.length : 1;
    void follow(() => load(q, order, n, abort.signal));
    return () => {
      abort.abort();
      more.current = () => {};
    };
  }, [of, version]);
  return { list: state.list, error: state.of === of ? state.error : undefined, more: () => more.current() };
}

/** Asks for one part more. */
async function part(
  q: string,
  order: string,
  list: RunList | undefined,
  signal: AbortSignal,
  limit = PART,
): Promise<RunList> {
  const cursor = list?.next ?? null;
  const url = apiUrl("runs", { q: q === "" ? null : q, order, limit, cursor });
  return joined(list, await ask<Runs>(url, signal));
}

/** Asks for the first parts, until there are so many runs. */
async function load(q: string, order: string, n: number, signal: AbortSignal): Promise<RunList> {
  const limit = n > PART ? PART_AGAIN : PART;
  let list = await part(q, order, undefined, signal, limit);
  while (list.rows.length < n && list.next !== null) list = await part(q, order, list, signal, limit);
  return list;
}
