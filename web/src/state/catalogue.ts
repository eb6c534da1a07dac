// The keys and steps of the runs that the grid shows.

import { signal } from "@preact/signals";
import { type ApiError, apiErrorOf, apiUrl, ask, isAborted } from "./api";
import type { Changed, KeyRow, Segment, Steps } from "./api.types";
import { onChanged, refreshed } from "./live";
import { StepList } from "./steps";

/** The steps of one key of one run. */
export interface Track {
  /** All steps, those with only rejected items too. */
  all: StepList;
  /** The steps at which a cell has something to show. */
  shown: StepList;
}

/** How many requests for steps are under way at most. */
const REQUESTS_MAX = 3;
/** How often the steps of one key are asked for at most, in milliseconds. */
const AGAIN_MS = 2_000;

/** A name of a key of a run for maps. */
export function cellName(run: string, key: string): string {
  return JSON.stringify([run, key]);
}

/** What is known of some runs. Made by the grid, and closed with it. */
export class Catalogue {
  /** The keys of each run, in order. */
  readonly keys = signal<ReadonlyMap<string, readonly KeyRow[]>>(new Map());
  readonly error = signal<ApiError | undefined>(undefined);
  /** The steps by [`cellName`]. */
  readonly tracks = signal<ReadonlyMap<string, Track>>(new Map());

  private runs: readonly string[] = [];
  private readonly wanted = new Map<string, { run: string; key: string }>();
  private readonly queue: string[] = [];
  private readonly askedAt = new Map<string, number>();
  private underWay = 0;
  private readonly abort = new AbortController();
  private readonly ends: (() => void)[];

  constructor() {
    let isFirst = true;
    this.ends = [
      onChanged((changes) => this.changed(changes)),
      refreshed.subscribe(() => {
        if (!isFirst) this.refresh();
        isFirst = false;
      }),
    ];
  }

  close(): void {
    this.abort.abort();
    for (const end of this.ends) end();
  }

  /** Shows some runs. */
  show(runs: readonly string[]): void {
    const isNew = (run: string) => !this.runs.includes(run);
    const added = runs.filter(isNew);
    this.runs = runs;
    for (const run of added) void this.loadKeys(run);
  }

  /** Asks for the steps of a key, if they are not known. */
  want(run: string, key: string): void {
    const name = cellName(run, key);
    if (this.wanted.has(name)) return;
    this.wanted.set(name, { run, key });
    this.queue.push(name);
    this.pump();
  }

  private refresh(): void {
    for (const run of this.runs) void this.loadKeys(run);
    for (const name of this.wanted.keys()) if (!this.queue.includes(name)) this.queue.push(name);
    this.pump();
  }

  private async loadKeys(run: string): Promise<void> {
    try {
      const keys = await ask<KeyRow[]>(apiUrl("keys", { run }), this.abort.signal);
      this.keys.value = new Map(this.keys.peek()).set(run, keys);
      this.error.value = undefined;
    } catch (error) {
      if (!isAborted(error)) this.error.value = apiErrorOf(error);
    }
  }

  private changed(changes: readonly Changed[]): void {
    const keys = new Map(this.keys.peek());
    const tracks = new Map(this.tracks.peek());
    for (const { run, ...row } of changes) {
      const rows = keys.get(run);
      if (!rows) continue;
      const others = rows.filter((other) => other.key !== row.key);
      keys.set(
        run,
        [...others, row].sort((a, b) => compareText(a.key, b.key)),
      );
      const name = cellName(run, row.key);
      const track = tracks.get(name);
      // The newest step can be shown at once; what else has changed is asked for.
      if (track && row.last !== null) {
        tracks.set(name, { all: track.all.extended(row.last), shown: track.shown.extended(row.last) });
      }
      this.askAgain(name);
    }
    this.keys.value = keys;
    this.tracks.value = tracks;
  }

  private askAgain(name: string): void {
    if (!this.wanted.has(name) || this.queue.includes(name)) return;
    this.queue.push(name);
    const since = performance.now() - (this.askedAt.get(name) ?? 0);
    setTimeout(() => this.pump(), Math.max(0, AGAIN_MS - since));
  }

  private pump(): void {
    const now = performance.now();
    for (let i = 0; i < this.queue.length && this.underWay < REQUESTS_MAX; ) {
      const name = this.queue[i] ?? "";
      const asked = this.askedAt.get(name);
      if (asked !== undefined && now - asked < AGAIN_MS - 5) {
        i++;
        continue;
      }
      this.queue.splice(i, 1);
      this.askedAt.set(name, now);
      this.underWay++;
      void this.loadSteps(name).finally(() => {
        this.underWay--;
        this.pump();
      });
    }
  }

  private async loadSteps(name: string): Promise<void> {
    const of = this.wanted.get(name);
    if (!of) return;
    const segments: Segment[] = [];
    try {
      let cursor: string | null = null;
      do {
        const url: string = apiUrl("steps", { ...of, cursor });
        const steps: Steps = await ask<Steps>(url, this.abort.signal);
        segments.push(...steps.segments);
        cursor = steps.next;
      } while (cursor !== null);
    } catch (error) {
      if (!isAborted(error)) this.error.value = apiErrorOf(error);
      return;
    }
    const shown = segments.filter(([, , , images, held]) => images + held > 0);
    const track = { all: new StepList(segments), shown: new StepList(shown) };
    this.tracks.value = new Map(this.tracks.peek()).set(name, track);
  }
}

/** By code points, as the store orders keys. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
