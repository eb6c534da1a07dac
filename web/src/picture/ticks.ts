// Where steps stand on the track of a slider, and how many items there are along it. Pure.

import type { StepNumber } from "../state/api.types";
import { approximate, type Counts, type StepUnion, stepNear } from "../state/steps";

/** A gap that is longer than this share of the track is shortened, */
const GAP_MIN = 0.9;
/** to this share. */
const GAP_SHOWN = 0.1;

/**
 * The places of steps on a track, from 0 to 1. They are linear, but for gaps that would leave no room for the steps:
 * one item at step 2⁵³ must not squeeze a thousand steps into one pixel.
 */
export class Axis {
  /** Where the axis bends: values, and their places. */
  private readonly values: number[] = [];
  private readonly places: number[] = [];
  /** The middles of gaps that were shortened. */
  readonly breaks: number[] = [];
  readonly first: StepNumber;
  readonly last: StepNumber;

  private constructor(first: StepNumber, last: StepNumber, stretches: readonly [number, number][]) {
    this.first = first;
    this.last = last;
    const gaps = gapsOf(stretches);
    const shortened = new Set<[number, number]>();
    let length = approximate(last) - approximate(first);
    for (const gap of [...gaps].sort((a, b) => b[1] - b[0] - (a[1] - a[0]))) {
      const size = gap[1] - gap[0];
      if (size <= GAP_MIN * length || length - size <= 0) break;
      shortened.add(gap);
      length -= size;
    }
    const shown = length * GAP_SHOWN;
    const whole = length + shown * shortened.size;
    this.values.push(approximate(first));
    this.places.push(0);
    let [value, at] = [approximate(first), 0];
    for (const gap of gaps.filter((one) => shortened.has(one))) {
      at += gap[0] - value;
      this.add(gap[0], at / whole);
      this.breaks.push((at + shown / 2) / whole);
      at += shown;
      this.add(gap[1], at / whole);
      value = gap[1];
    }
    this.add(approximate(last), 1);
  }

  /** The axis of some steps; null if there are none. */
  static of(steps: StepUnion): Axis | null {
    const [first, last] = [steps.first(), steps.last()];
    if (first === null || last === null) return null;
    const stretches = steps.lists.flatMap((list) => list.stretches());
    return new Axis(
      first,
      last,
      stretches.map(([from, to]) => [approximate(from), approximate(to)]),
    );
  }

  private add(value: number, place: number): void {
    this.values.push(value);
    this.places.push(place);
  }

  /** The place of a step, from 0 to 1. */
  place(step: StepNumber): number {
    if (this.first === this.last) return 0.5;
    return between(approximate(step), this.values, this.places);
  }

  /** The value at a place. There need be no such step. */
  value(place: number): number {
    return between(place, this.places, this.values);
  }

  /** The step at a place. It need not exist. */
  step(place: number): StepNumber {
    return place <= 0 ? this.first : place >= 1 ? this.last : stepNear(this.value(place));
  }
}

/** The gaps between stretches, in order. */
function gapsOf(stretches: readonly [number, number][]): [number, number][] {
  const gaps: [number, number][] = [];
  let end = Number.NaN;
  for (const [from, to] of [...stretches].sort((a, b) => a[0] - b[0])) {
    if (from > end) gaps.push([end, from]);
    end = Number.isNaN(end) ? to : Math.max(end, to);
  }
  return gaps;
}

/** A piecewise linear function through some points, and constant outside. */
function between(x: number, xs: readonly number[], ys: readonly number[]): number {
  const last = xs.length - 1;
  if (x <= (xs[0] ?? 0)) return ys[0] ?? 0;
  for (let i = 1; i <= last; i++) {
    const [x0 = 0, x1 = 0, y0 = 0, y1 = 0] = [xs[i - 1], xs[i], ys[i - 1], ys[i]];
    if (x <= x1) return x1 > x0 ? y0 + ((x - x0) / (x1 - x0)) * (y1 - y0) : y1;
  }
  return ys[last] ?? 0;
}

/** What there is in each of `n` equal parts of a track. Every step is in exactly one. */
export function density(steps: StepUnion, axis: Axis, n: number): Counts[] {
  if (n < 1) return [];
  if (axis.first === axis.last) {
    const nothing = { images: 0, held: 0, rejected: 0 };
    const middle = Math.floor(axis.place(axis.first) * n);
    const all = steps.counts(axis.first, axis.last);
    return Array.from({ length: n }, (_, at) => (at === middle ? all : nothing));
  }
  const edge = (at: number) => {
    return at <= 0 ? axis.first : at >= n ? axis.last : stepNear(Math.ceil(axis.value(at / n)));
  };
  return Array.from({ length: n }, (_, at) => {
    const [low, high] = [edge(at), edge(at + 1)];
    const before = at + 1 >= n ? high : stepNear(approximate(high) - 1);
    if (approximate(before) < approximate(low)) return { images: 0, held: 0, rejected: 0 };
    return steps.counts(low, before);
  });
}
