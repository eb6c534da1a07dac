// Where the bars and handles of a histogram are. Pure.

import type { Histogram } from "../state/api.types";

/** Heights from 0 to 1 of each channel's bins. */
export function heights(histogram: Histogram, isLogarithmic: boolean): number[][] {
  const height = (count: number) => (isLogarithmic ? Math.log1p(count) : count);
  const most = Math.max(1, ...histogram.channels.map(({ counts }) => Math.max(0, ...counts)));
  return histogram.channels.map(({ counts }) => counts.map((count) => height(count) / height(most)));
}

/** The part of the width at which a value is; values outside are at the ends. */
export function placeOf(value: number, { low, high }: Pick<Histogram, "low" | "high">): number {
  const place = high > low ? (value - low) / (high - low) : 0.5;
  return Math.min(1, Math.max(0, place));
}

/** The value at a part of the width. */
export function valueAt(place: number, { low, high }: Pick<Histogram, "low" | "high">): number {
  return low + Math.min(1, Math.max(0, place)) * (high - low);
}

/** The bin at a part of the width. */
export function binAt(place: number, n: number): number {
  return Math.min(n - 1, Math.max(0, Math.floor(place * n)));
}

/** Moves a handle by parts of the width. The low one stays below the high one. */
export function moved(
  range: readonly [number, number],
  handle: 0 | 1,
  to: number,
  histogram: Pick<Histogram, "low" | "high">,
): [number, number] {
  const gap = (histogram.high - histogram.low) / 1000;
  return handle === 0 ? [Math.min(to, range[1] - gap), range[1]] : [range[0], Math.max(to, range[0] + gap)];
}

/** The sum of the counts that are no bars, over all channels. */
export function others(histogram: Histogram): Record<"nan" | "inf" | "below" | "above", number> {
  const total = { nan: 0, inf: 0, below: 0, above: 0 };
  for (const channel of histogram.channels) {
    total.nan += channel.nan;
    total.inf += channel.positive_inf + channel.negative_inf;
    total.below += channel.below;
    total.above += channel.above;
  }
  return total;
}

/** The least and the greatest finite value of all channels. */
export function extent(histogram: Histogram): [number, number] | null {
  const ends = histogram.channels.flatMap(({ min, max }) => (min === null || max === null ? [] : [min, max]));
  return ends.length > 0 ? [Math.min(...ends), Math.max(...ends)] : null;
}
