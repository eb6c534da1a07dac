// Which thumbnails are asked for together. Pure.

import type { StepNumber } from "../state/api.types";

/** The steps of a request. */
const STEPS_MAX = 64;
/** The runs times the keys times the indices of a request; with its steps, fewer than the gallery takes. */
const CELLS_MAX = 256;
/** Characters of an address; the gallery takes 16 KiB of headers. */
const URL_MAX = 6_000;

/** The part of a cell that a request names. */
export interface Cell {
  name: string;
  run: string;
  key: string;
  index: number;
}

/** How far two steps are from each other. */
export function distance(a: StepNumber, b: StepNumber): number {
  if (typeof a === "number" && typeof b === "number") return Math.abs(a - b);
  return Math.abs(Number(BigInt(a) - BigInt(b)));
}

/** One request: some steps of all indices of all keys of all runs. */
export class Batch {
  readonly abort = new AbortController();
  isAhead = false;
  private readonly names = new Map<string, string>();
  private readonly left = new Map<string, Set<StepNumber>>();

  constructor(
    readonly size: number,
    readonly cells: readonly Cell[],
    readonly steps: readonly StepNumber[],
  ) {
    for (const { name, run, key, index } of cells) {
      this.names.set(JSON.stringify([run, key, index]), name);
      this.left.set(name, new Set(steps));
    }
  }

  has(cell: Cell, step: StepNumber): boolean {
    return this.left.get(cell.name)?.has(step) ?? false;
  }

  /** The name of the cell that a frame belongs to. */
  nameOf(head: { run: string; key: string; index: number }): string | undefined {
    return this.names.get(JSON.stringify([head.run, head.key, head.index]));
  }

  got(name: string, step: StepNumber): void {
    this.left.get(name)?.delete(step);
  }

  /** What was asked for and has not come. */
  missing(): { name: string; step: StepNumber }[] {
    return [...this.left].flatMap(([name, steps]) => [...steps].map((step) => ({ name, step })));
  }

  /** Whether anything that has not come is wanted. */
  isWanted(wanted: ReadonlyMap<string, ReadonlySet<StepNumber>>): boolean {
    return this.missing().some(({ name, step }) => wanted.get(name)?.has(step));
  }

  url(): string {
    return url(this.size, this.cells, this.steps);
  }
}

function url(size: number, cells: readonly Cell[], steps: readonly StepNumber[]): string {
  const query = new URLSearchParams();
  for (const run of new Set(cells.map((cell) => cell.run))) query.append("run", run);
  for (const key of new Set(cells.map((cell) => cell.key))) query.append("key", key);
  query.append("steps", steps.join(","));
  query.append("index", ranges(cells.map((cell) => cell.index)));
  query.append("size", String(size));
  return `/api/v1/frames?${query}`;
}

/** Writes numbers as the gallery reads them: `0-3,7`. */
function ranges(numbers: readonly number[]): string {
  const written: string[] = [];
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  for (let at = 0; at < sorted.length; at++) {
    const first = sorted[at] ?? 0;
    let last = first;
    while (sorted[at + 1] === last + 1) {
      last++;
      at++;
    }
    written.push(first === last ? `${first}` : `${first}-${last}`);
  }
  return written.join();
}

/** The requests for the steps that cells want, in the order of the cells. */
export function batches<C extends Cell>(
  cells: readonly C[],
  size: number,
  wanted: (cell: C) => readonly StepNumber[],
): Batch[] {
  const wishes = cells.map((cell) => ({ cell, steps: wanted(cell) }));
  // Cells that want the same steps are asked for together.
  const groups = grouped(
    wishes.filter(({ steps }) => steps.length > 0),
    ({ steps }) => steps,
  );
  const made: Batch[] = [];
  for (const group of groups) {
    const steps = group[0]?.steps ?? [];
    for (const product of products(group.map(({ cell }) => cell))) {
      for (let at = 0; at < steps.length; at += STEPS_MAX) {
        made.push(...fitting(size, product, steps.slice(at, at + STEPS_MAX)));
      }
    }
  }
  return made;
}

/** Cells as sets in which each run has each key, and each key has each index. */
function products<C extends Cell>(cells: readonly C[]): C[][] {
  const indices = (of: readonly C[]) => of.map(({ index }) => index).sort((a, b) => a - b);
  const keys = (of: readonly C[]) => [...new Set(of.map(({ key }) => key))].sort();
  const perKey = grouped(cells, ({ run, key }) => [run, key]);
  return joined(perKey, indices).flatMap((some) => {
    const perRun = grouped(some, ({ run }) => run);
    return joined(perRun, keys);
  });
}

function grouped<T>(all: readonly T[], by: (one: T) => unknown): T[][] {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const name = JSON.stringify(by(one));
    const known = groups.get(name);
    if (known) known.push(one);
    else groups.set(name, [one]);
  }
  return [...groups.values()];
}

/** Joins groups that have the same in common. */
function joined<T>(groups: readonly T[][], common: (group: readonly T[]) => unknown): T[][] {
  return grouped(groups, common).map((of) => of.flat());
}

/** A request, or several if it would be too long. */
function fitting<C extends Cell>(size: number, cells: C[], steps: readonly StepNumber[]): Batch[] {
  const fits = cells.length <= CELLS_MAX && url(size, cells, steps).length <= URL_MAX;
  if (cells.length === 1 || fits) return [new Batch(size, cells, steps)];
  const half = cells.length >> 1;
  return [cells.slice(0, half), cells.slice(half)].flatMap((part) => {
    return products(part).flatMap((product) => fitting(size, product, steps));
  });
}
