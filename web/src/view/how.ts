// How values become colors on the item page: what the link says, else what the stored picture's rule says. Pure.

import type { Develop } from "../picture/develop";
import { extent } from "../picture/histogram";
import { parseHexColor } from "../picture/rule";
import type { Histogram } from "../state/api.types";
import type { Develop as DevelopView } from "../state/url";

type Span = readonly [number, number] | null;

/**
 * The settings in full. Without a range, the rule's; without a rule, from the least to the greatest value. Without a
 * colormap, the one of the stored picture, if it has one.
 */
export function howOf(
  dev: DevelopView | null,
  span: Span,
  histogram: Histogram | undefined,
  isProved: boolean,
  stored: string | null = null,
): Develop {
  const otherwise: Span = isProved ? (span ?? (histogram && extent(histogram)) ?? [0, 1]) : [0, 255];
  return {
    low: dev?.low ?? otherwise[0],
    high: dev?.high ?? otherwise[1],
    gamma: dev?.gamma ?? 1,
    // The values of a stored picture have their colors already.
    colormap: dev?.map || (isProved ? stored : null),
    channel: dev && dev.channel >= 0 ? dev.channel : null,
    nanColor: dev?.nan ? parseHexColor(dev.nan) : null,
  };
}

/** The range outside of which values are marked as clipped. A picture whose rule has no range clips nothing. */
export function rangeOf(dev: DevelopView | null, span: Span, how: Develop): [number, number] {
  const isChosen = dev !== null && (dev.low !== null || dev.high !== null);
  return isChosen || span ? [how.low, how.high] : [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
}
