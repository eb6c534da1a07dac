// Which thumbnails are asked for together. Pure.

import type { StepNumber } from "../state/api.types";

/** The steps of a request. */
const STEPS_MAX = 64;
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

/** One request: some steps of all keys of all runs, at one index. */
export class Batch {
  readonly abort = new AbortController();
  isAhead = false;
  private readonly names = new Map<string, string>();
  private readonly left = new Map<string, Set<StepNumber>>();

  constructor(
    readonly size: number,
    readonly index: number,
    readonly cells: readonly Cell[],
    readonly steps: readonly StepNumber[],
  ) {
    for (const { name, run, key } of cells) {
      this.names.set(JSON.stringify([run, key]), name);
      this.left.set(name, new Set(steps));
    }
  }

  has(cell: Cell, step: StepNumber): boolean {
    return this.left.get(cell.name)?.has(step) ?? false;
  }

  /** The name of the cell that a frame belongs to. */
  nameOf(head: { run: string; key: string; index: number }): string | undefined {
    return head.index === this.index ? this.names.get(JSON.stringify([head.run, head.key])) : undefined;
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
    return url(this.size, this.index, this.cells, this.steps);
  }
}

function url(size: number, index: number, cells: readonly Cell[], steps: readonly StepNumber[]): string {
  const query = new URLSearchParams();
  for (const run of new Set(cells.map((cell) => cell.run))) query.append("run", run);
  for (const key of new Set(cells.map((cell) => cell.key))) query.append("key", key);
  query.append("steps", steps.join(","));
  query.append("index", String(index));
  query.append("size", String(size));
  return `/api/v1/frames?${query}`;
}

/** The requests for the steps that cells want, in the order of the cells. */
export function batches<C extends Cell>(
  cells: readonly C[],
  size: number,
  wanted: (cell: C) => readonly StepNumber[],
): Batch[] {
  // Cells that want the same steps at the same index are asked for together.
  const groups = new Map<string, { steps: readonly StepNumber[]; cells: C[] }>();
  for (const cell of cells) {
    const steps = wanted(cell);
    if (steps.length === 0) continue;
    const group = `${cell.index} ${steps.join()}`;
    const known = groups.get(group);
    if (known) known.cells.push(cell);
    else groups.set(group, { steps, cells: [cell] });
  }
  const made: Batch[] = [];
  for (const { steps, cells: all } of groups.values()) {
    const [some] = all;
    if (!some) continue;
    for (const product of products(all)) {
      for (let at = 0; at < steps.length; at += STEPS_MAX) {
        made.push(...fitting(size, some.index, product, steps.slice(at, at + STEPS_MAX)));
      }
    }
  }
  return made;
}

/** Cells as sets in which each run has each key. */
function products<C extends Cell>(cells: readonly C[]): C[][] {
  const runs = new Map<string, C[]>();
  for (const cell of cells) runs.set(cell.run, [...(runs.get(cell.run) ?? []), cell]);
  const byKeys = new Map<string, C[]>();
  for (const of of runs.values()) {
    const keys = JSON.stringify(of.map((cell) => cell.key).sort());
    byKeys.set(keys, [...(byKeys.get(keys) ?? []), ...of]);
  }
  return [...byKeys.values()];
}

/** A request, or several if its address would be too long. */
function fitting<C extends Cell>(
  size: number,
  index: number,
  cells: C[],
  steps: readonly StepNumber[],
): Batch[] {
  if (cells.length === 1 || url(size, index, cells, steps).length <= URL_MAX) {
    return [new Batch(size, index, cells, steps)];
  }
  const half = cells.length >> 1;
  return [cells.slice(0, half), cells.slice(half)].flatMap((part) => {
    return products(part).flatMap((product) => fitting(size, index, product, steps));
  });
}
