// Steps and the segments that list them. Pure.
//
// A step is a u64. Up to 2⁵³−1 it is a number; above, a decimal string, because a number would not be exact.

import type { Segment, StepNumber } from "./api.types";

/** The greatest step: 2⁶⁴−1. */
const STEP_MAX = 18446744073709551615n;

/** Returns a negative number if `a` is less than `b`, a positive one if it is greater, else 0. */
export function compareSteps(a: StepNumber, b: StepNumber): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

/** Reads a step from decimal digits. Returns null if the text is no u64. */
export function parseStep(text: string): StepNumber | null {
  if (!/^[0-9]{1,20}$/.test(text)) return null;
  const step = BigInt(text);
  return step > STEP_MAX ? null : stepOf(step);
}

/** The step as a number, which is inexact above 2⁵³. For places on a track. */
export function approximate(step: StepNumber): number {
  return Number(step);
}

/** The step nearest to a number. */
export function stepNear(value: number): StepNumber {
  if (!(value > 0)) return 0;
  if (value <= Number.MAX_SAFE_INTEGER) return Math.round(value);
  const step = BigInt(Math.round(value));
  return stepOf(step > STEP_MAX ? STEP_MAX : step);
}

/** The step with separators between groups of three digits: `1,234,567`. */
export function formatStep(step: StepNumber): string {
  return String(step).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

function stepOf(step: bigint): StepNumber {
  return step <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(step) : step.toString();
}

/** Returns `first + stride × n`. */
function advance(first: StepNumber, stride: StepNumber, n: number): StepNumber {
  if (n === 0) return first;
  if (typeof first === "number" && typeof stride === "number") {
    const step = first + stride * n;
    if (step <= Number.MAX_SAFE_INTEGER) return step;
  }
  return stepOf(BigInt(first) + BigInt(stride) * BigInt(n));
}

/** Returns the greatest `n` with `first + stride × n ≤ step`. Takes `step ≥ first`. */
function strides(first: StepNumber, stride: StepNumber, step: StepNumber): number {
  if (typeof first === "number" && typeof stride === "number" && typeof step === "number") {
    return stride === 0 ? 0 : Math.floor((step - first) / stride);
  }
  const wide = BigInt(stride);
  return wide === 0n ? 0 : Number((BigInt(step) - BigInt(first)) / wide);
}

/** The images, held and rejected items at some steps. */
export interface Counts {
  images: number;
  held: number;
  rejected: number;
}

/** The steps of one key, in order. */
export class StepList {
  /** The number of steps before each segment. */
  private readonly before: number[] = [];
  /** The number of steps. */
  readonly length: number;

  constructor(private readonly segments: readonly Segment[]) {
    let n = 0;
    for (const [, , count] of segments) {
      this.before.push(n);
      n += count;
    }
    this.length = n;
  }

  /** The list with one more step at its end, which has one image. A step that is not beyond the end is left out. */
  extended(step: StepNumber): StepList {
    const last = this.last();
    if (last !== null && compareSteps(step, last) <= 0) return this;
    return new StepList([...this.segments, [step, 0, 1, 1, 0, 0]]);
  }

  /** The step at a place in the list. */
  at(place: number): StepNumber | null {
    if (place < 0 || place >= this.length) return null;
    const i = lastAtMost(this.before.length, (at) => (this.before[at] ?? 0) <= place);
    const segment = this.segments[i];
    return segment ? advance(segment[0], segment[1], place - (this.before[i] ?? 0)) : null;
  }

  /** The place of the greatest step that is at most `step`; −1 if all are greater. */
  placeAtMost(step: StepNumber): number {
    const i = lastAtMost(this.segments.length, (at) => {
      const segment = this.segments[at];
      return segment !== undefined && compareSteps(segment[0], step) <= 0;
    });
    const segment = this.segments[i];
    if (!segment) return -1;
    const [first, stride, count] = segment;
    return (this.before[i] ?? 0) + Math.min(count - 1, strides(first, stride, step));
  }

  /** The greatest step that is at most `step`. */
  atMost(step: StepNumber): StepNumber | null {
    return this.at(this.placeAtMost(step));
  }

  /** The least step that is greater than `step`. */
  after(step: StepNumber): StepNumber | null {
    return this.at(this.placeAtMost(step) + 1);
  }

  /** The greatest step that is less than `step`. */
  prior(step: StepNumber): StepNumber | null {
    const place = this.placeAtMost(step);
    const found = this.at(place);
    return found !== null && compareSteps(found, step) === 0 ? this.at(place - 1) : found;
  }

  first(): StepNumber | null {
    return this.at(0);
  }

  /** The first and the last step of each stretch of steps at equal distances. */
  stretches(): [StepNumber, StepNumber][] {
    return this.segments.map(([first, stride, count]) => [first, advance(first, stride, count - 1)]);
  }

  last(): StepNumber | null {
    return this.at(this.length - 1);
  }

  /** What there is at the steps from `low` to `high`, both included. */
  counts(low: StepNumber, high: StepNumber): Counts {
    const counts: Counts = { images: 0, held: 0, rejected: 0 };
    const from = this.placeBelow(low) + 1;
    const to = this.placeAtMost(high);
    if (from > to) return counts;
    let i = lastAtMost(this.before.length, (at) => (this.before[at] ?? 0) <= from);
    for (; i < this.segments.length; i++) {
      const segment = this.segments[i];
      const begin = this.before[i] ?? 0;
      if (!segment || begin > to) break;
      const n = Math.min(to, begin + segment[2] - 1) - Math.max(from, begin) + 1;
      counts.images += n * segment[3];
      counts.held += n * segment[4];
      counts.rejected += n * segment[5];
    }
    return counts;
  }

  private placeBelow(step: StepNumber): number {
    const place = this.placeAtMost(step);
    const found = this.at(place);
    return found !== null && compareSteps(found, step) === 0 ? place - 1 : place;
  }
}

/** Returns the last of `n` places for which a condition holds that holds for a prefix; −1 if for none. */
function lastAtMost(n: number, holds: (place: number) => boolean): number {
  let low = 0;
  let high = n;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The steps of several keys together. */
export class StepUnion {
  constructor(readonly lists: readonly StepList[]) {}

  first(): StepNumber | null {
    return least(this.lists.map((list) => list.first()));
  }

  last(): StepNumber | null {
    return greatest(this.lists.map((list) => list.last()));
  }

  /** The least step that is greater than `step`. */
  next(step: StepNumber): StepNumber | null {
    return least(this.lists.map((list) => list.after(step)));
  }

  /** The greatest step that is less than `step`. */
  previous(step: StepNumber): StepNumber | null {
    return greatest(this.lists.map((list) => list.prior(step)));
  }

  /** The greatest step that is at most `step`. */
  atMost(step: StepNumber): StepNumber | null {
    return greatest(this.lists.map((list) => list.atMost(step)));
  }

  /** The step nearest to `step`; the lesser of two that are equally near. */
  nearest(step: StepNumber): StepNumber | null {
    const below = this.atMost(step);
    const above = this.next(step);
    if (below === null || above === null) return below ?? above;
    return BigInt(step) - BigInt(below) <= BigInt(above) - BigInt(step) ? below : above;
  }

  /** The step that is `n` steps away, or the last one in that direction. */
  move(step: StepNumber, n: number): StepNumber | null {
    let at: StepNumber | null = step;
    for (let i = 0; i < Math.abs(n); i++) {
      const to: StepNumber | null = n > 0 ? this.next(at) : this.previous(at);
      if (to === null) return i === 0 ? this.nearest(step) : at;
      at = to;
    }
    return at;
  }

  /** What there is at the steps from `low` to `high`, both included. */
  counts(low: StepNumber, high: StepNumber): Counts {
    const sum: Counts = { images: 0, held: 0, rejected: 0 };
    for (const list of this.lists) {
      const counts = list.counts(low, high);
      sum.images += counts.images;
      sum.held += counts.held;
      sum.rejected += counts.rejected;
    }
    return sum;
  }
}

function least(steps: (StepNumber | null)[]): StepNumber | null {
  return pick(steps, -1);
}

function greatest(steps: (StepNumber | null)[]): StepNumber | null {
  return pick(steps, 1);
}

function pick(steps: (StepNumber | null)[], sign: number): StepNumber | null {
  let found: StepNumber | null = null;
  for (const step of steps) {
    if (step !== null && (found === null || compareSteps(step, found) * sign > 0)) found = step;
  }
  return found;
}
