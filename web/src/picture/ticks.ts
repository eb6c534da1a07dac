// How many items there are along the track of a slider. Pure.

import type { StepNumber } from "../state/api.types";
import { approximate, type Counts, type StepUnion, stepNear } from "../state/steps";

/** The place of a step on a track of `width` pixels. */
export function placeOf(step: StepNumber, first: StepNumber, last: StepNumber, width: number): number {
  const [from, to] = [approximate(first), approximate(last)];
  return to > from ? ((approximate(step) - from) / (to - from)) * width : width / 2;
}

/** The step at a place on a track of `width` pixels. It need not exist. */
export function stepAt(place: number, first: StepNumber, last: StepNumber, width: number): StepNumber {
  if (place <= 0) return first;
  if (place >= width) return last;
  const [from, to] = [approximate(first), approximate(last)];
  return stepNear(from + (place / width) * (to - from));
}

/** What there is in each of `n` equal parts of a track. Every step is in exactly one. */
export function density(steps: StepUnion, n: number): Counts[] {
  const [first, last] = [steps.first(), steps.last()];
  if (first === null || last === null || n < 1) return [];
  const [from, to] = [approximate(first), approximate(last)];
  const edge = (at: number) => {
    return at <= 0 ? first : at >= n ? last : stepNear(Math.ceil(from + (at / n) * (to - from)));
  };
  return Array.from({ length: n }, (_, at) => {
    const [low, high] = [edge(at), edge(at + 1)];
    const before = at + 1 >= n ? high : stepNear(approximate(high) - 1);
    if (approximate(before) < approximate(low)) return { images: 0, held: 0, rejected: 0 };
    return steps.counts(low, before);
  });
}
