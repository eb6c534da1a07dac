// The list of runs, from the first one to where it was scrolled.

import { useEffect, useRef, useState } from "preact/hooks";
import { type ApiError, apiErrorOf, apiUrl, ask } from "./api";
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

/** What is known of a list. */
export interface Listed {
  readonly list: RunList | undefined;
  /** Why the last request failed. */
  readonly error: ApiError | undefined;
}

/** The list with another part behind it. A run that has moved meanwhile stays where it was seen. */
export function joined(list: RunList | undefined, { runs, matching, all, next }: Runs): RunList {
  const known = new Set(list?.rows.map(({ run }) => run));
  const rows = [...(list?.rows ?? []), ...runs.filter(({ run }) => !known.has(run))];
  return { rows, matching, all, next };
}

/** Asks for a part of a list: so many runs behind a cursor. */
type AskPart = (cursor: string | null, limit: number, signal: AbortSignal) => Promise<Runs>;

/** A request: for the next runs, or again for all that were seen. */
type Request = "next" | "again";

/**
 * Keeps a list current with one request at a time. A change never aborts a request: where changes are frequent, no
 * request would reach its end.
 */
export class RunLoader {
  private readonly abort = new AbortController();
  private running: Request | null = null;
  /** The list has changed since the running request began. */
  private isOld = false;
  /** More runs were wanted while all were asked for again. */
  private wantsMore = false;
  /** What `more` asks for: what failed last, or the next runs. */
  private following: Request | null = null;

  constructor(
    private list: RunList | undefined,
    private readonly ask: AskPart,
    private readonly show: (listed: Listed) => void,
  ) {}

  /** Asks again for all that was seen, now or after the running request. */
  refresh(): void {
    if (this.running === null) void this.start("again");
    else this.isOld = true;
  }

  /** Asks for the next runs, or again for those that failed. */
  more(): void {
    if (this.running === null && this.following !== null) void this.start(this.following);
    else if (this.running === "again") this.wantsMore = true;
  }

  /** Aborts the running request. Nothing is shown from then on. */
  end(): void {
    this.abort.abort();
  }

  private async start(request: Request): Promise<void> {
    this.running = request;
    let error: ApiError | undefined;
    try {
      this.list = await (request === "next" ? this.part(this.list, PART) : this.again());
      this.following = this.list.next === null ? null : "next";
    } catch (thrown) {
      error = apiErrorOf(thrown);
      this.following = request;
    }
    if (this.abort.signal.aborted) return;
    this.running = null;
    this.show({ list: this.list, error });
    const { isOld, wantsMore } = this;
    this.wantsMore = false;
    if (wantsMore && this.following === "next") {
      void this.start("next");
    } else if (isOld) {
      this.isOld = false;
      void this.start("again");
    }
  }

  private async part(list: RunList | undefined, limit: number): Promise<RunList> {
    return joined(list, await this.ask(list?.next ?? null, limit, this.abort.signal));
  }

  private async again(): Promise<RunList> {
    const n = this.list?.rows.length ?? 1;
    const limit = n > PART ? PART_AGAIN : PART;
    let list = await this.part(undefined, limit);
    while (list.rows.length < n && list.next !== null) list = await this.part(list, limit);
    return list;
  }
}

/** What was listed last: a page that is returned to shows it at once. */
let last: { of: string; list: RunList } | undefined;

/** Lists runs that have the words of `q`, in an order such as `-changed`. `more` asks for the next ones. */
export function useRuns(q: string, order: string): Listed & { more: () => void } {
  const of = JSON.stringify([q, order]);
  const known = last?.of === of ? last.list : undefined;
  const [listed, setListed] = useState<Listed & { of: string }>({ of, list: known, error: undefined });
  const loader = useRef<RunLoader | null>(null);
  const version = runsVersion.value + refreshed.value;
  useEffect(() => {
    const askPart = (cursor: string | null, limit: number, signal: AbortSignal) =>
      ask<Runs>(apiUrl("runs", { q: q === "" ? null : q, order, limit, cursor }), signal);
    loader.current = new RunLoader(known, askPart, ({ list, error }) => {
      if (list) last = { of, list };
      setListed({ of, list, error });
    });
    return () => loader.current?.end();
  }, [of]);
  useEffect(() => loader.current?.refresh(), [of, version]);
  const error = listed.of === of ? listed.error : undefined;
  return { list: listed.list, error, more: () => loader.current?.more() };
}
