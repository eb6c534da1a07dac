import { useMemo, useState } from "preact/hooks";
import { binAt, heights, moved, others, placeOf, valueAt } from "../picture/histogram";
import { brief, channelNames, readable } from "../picture/loupe";
import { countText } from "../picture/words";
import type { Histogram } from "../state/api.types";
import { Panel } from "./Panel";
import { KeyButton, Skeleton } from "./parts";

interface HistogramProps {
  isOpen: boolean;
  isLogarithmic: boolean;
  histogram: Histogram | undefined;
  error: Error | undefined;
  /** The values that become the least and the greatest byte. */
  range: readonly [number, number];
  onRange: (range: [number, number]) => void;
}

const HEIGHT = 88;
const WIDTH = 256;

/** How often values occur, with the range that is mapped as two handles. */
export function HistogramPanel(props: HistogramProps) {
  const { isOpen, isLogarithmic, histogram, error } = props;
  const note = (
    <KeyButton name="logarithmic" kind="plain" pressed={isLogarithmic}>
      log
    </KeyButton>
  );
  return (
    <Panel title="Histogram" name="histogram" isOpen={isOpen} note={isOpen && note}>
      {histogram ? <Chart {...props} histogram={histogram} /> : error ? null : <Skeleton height={HEIGHT} />}
      {error && <p class="note is-warning">{error.message}</p>}
    </Panel>
  );
}

function Chart({ histogram, isLogarithmic, range, onRange }: HistogramProps & { histogram: Histogram }) {
  const [under, setUnder] = useState<number | null>(null);
  const n = histogram.channels[0]?.counts.length ?? 1;
  const bin = under === null ? null : binAt(under, n);
  const counted = others(histogram);
  const names = channelNames(histogram.channels.length);
  return (
    <>
      <div
        class="histogram"
        onPointerMove={(event) => {
          const css = event.currentTarget.getBoundingClientRect();
          setUnder((event.clientX - css.left) / css.width);
        }}
        onPointerLeave={() => setUnder(null)}
      >
        <Bars {...{ histogram, isLogarithmic, range }} />
        <Handle which={0} {...{ histogram, range, onRange }} />
        <Handle which={1} {...{ histogram, range, onRange }} />
      </div>
      <div class="row num mono histogram-axis">
        <span>{brief(histogram.low, 4)}</span>
        <span class="muted">
          {bin === null
            ? `${readable(range[0])} to ${readable(range[1])}`
            : `${readable(valueAt(bin / n, histogram))}: ${histogram.channels
                .map(({ counts }, channel) => `${names[channel]} ${countText(counts[bin] ?? 0)}`)
                .join(", ")}`}
        </span>
        <span>{brief(histogram.high, 4)}</span>
      </div>
      <ul class="counts num">
        {Object.entries({
          NaN: counted.nan,
          "±Inf": counted.inf,
          below: counted.below,
          above: counted.above,
        }).map(([name, count]) => (
          <li key={name} class={count > 0 ? "is-odd" : undefined}>
            {name} <span class="mono">{countText(count)}</span>
          </li>
        ))}
      </ul>
    </>
  );
}

/** An end of the range. It is a slider, so that the keyboard moves it as well. */
function Handle({
  which,
  histogram,
  range,
  onRange,
}: { which: 0 | 1; histogram: Histogram } & Pick<HistogramProps, "range" | "onRange">) {
  const name = which === 0 ? "Low end of the range" : "High end of the range";
  return (
    <input
      class="histogram-handle"
      type="range"
      min={0}
      max={1}
      step={0.002}
      aria-label={name}
      aria-valuetext={readable(range[which])}
      value={placeOf(range[which], histogram)}
      onInput={(event) => {
        const to = valueAt(event.currentTarget.valueAsNumber, histogram);
        onRange(moved(range, which, Number(to.toPrecision(6)), histogram));
      }}
    />
  );
}

/** The bars of all channels above each other, and shades over what lies outside of the range that is mapped. */
function Bars({
  histogram,
  isLogarithmic,
  range,
}: Pick<HistogramProps, "isLogarithmic" | "range"> & {
  histogram: Histogram;
}) {
  const paths = useMemo(() => heights(histogram, isLogarithmic).map(outlineOf), [histogram, isLogarithmic]);
  const isGray = paths.length < 3;
  const [low, high] = range.map((value) => placeOf(value, histogram) * WIDTH) as [number, number];
  return (
    <svg
      class="histogram-bars"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`Histogram from ${readable(histogram.low)} to ${readable(histogram.high)}`}
    >
      <rect class="histogram-shade" width={low} height={HEIGHT} />
      <rect class="histogram-shade" x={high} width={Math.max(0, WIDTH - high)} height={HEIGHT} />
      {paths.map((path, channel) => (
        <path key={COLORS[channel]} class={`bars is-${isGray ? "gray" : COLORS[channel]}`} d={path} />
      ))}
    </svg>
  );
}

const COLORS = ["red", "green", "blue", "alpha"];

/** The outline of bars from 0 to 1. */
function outlineOf(bins: readonly number[]): string {
  const step = WIDTH / bins.length;
  const tops = bins.map((bar) => `V${(HEIGHT - bar * (HEIGHT - 4)).toFixed(1)}h${step}`);
  return `M0 ${HEIGHT}${tops.join("")}V${HEIGHT}z`;
}
