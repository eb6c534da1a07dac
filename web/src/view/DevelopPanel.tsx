import { useState } from "preact/hooks";
import type { Develop } from "../picture/develop";
import { extent } from "../picture/histogram";
import { channelNames } from "../picture/loupe";
import type { AutoRange } from "../picture/panels";
import { hexColor, parseHexColor, ruleOf } from "../picture/rule";
import type { Histogram } from "../state/api.types";
import { push, view } from "../state/route";
import type { Develop as DevelopView } from "../state/url";
import { gridOf } from "./itemkeys";
import { Panel } from "./Panel";
import { Button, copy } from "./parts";

interface DevelopProps {
  isOpen: boolean;
  /** Null: as stored. */
  dev: DevelopView | null;
  how: Develop;
  mediaKey: string;
  channels: number;
  colormaps: readonly string[];
  histogram: Histogram | undefined;
  auto: AutoRange | null;
  onDev: (dev: DevelopView | null) => void;
  onAuto: (auto: AutoRange | null) => void;
}

export const PLAIN: DevelopView = { low: null, high: null, gamma: 1, map: "", channel: -1, nan: "" };

/** How values become colors on this page. Nothing of it is stored. */
export function DevelopPanel(props: DevelopProps) {
  const { isOpen, dev, how, mediaKey, channels, colormaps, onDev } = props;
  const change = (to: Partial<DevelopView>) => onDev({ ...(dev ?? PLAIN), ...to });
  return (
    <Panel title="Develop" name="develop" isOpen={isOpen} note={dev ? "changed" : "as stored"}>
      <RangeButtons {...props} />
      <div class="fields">
        <Numeric name="low" value={how.low} onValue={(low) => change({ low, high: how.high })} />
        <Numeric name="high" value={how.high} onValue={(high) => change({ high, low: how.low })} />
        <label class="labelled">
          <span class="row">
            gamma <span class="num mono">{how.gamma.toFixed(2)}</span>
          </span>
          <input
            type="range"
            min={-1}
            max={1}
            step={0.02}
            aria-valuetext={how.gamma.toFixed(2)}
            value={Math.log10(how.gamma)}
            onInput={(event) =>
              change({ gamma: Number((10 ** event.currentTarget.valueAsNumber).toFixed(2)) })
            }
          />
        </label>
        <label class="labelled">
          channel
          <select
            class="field"
            value={how.channel ?? -1}
            disabled={channels < 2}
            onChange={(event) => change({ channel: Number(event.currentTarget.value) })}
          >
            <option value={-1}>all</option>
            {channelNames(channels).map((name, channel) => (
              <option key={name} value={channel}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label class="labelled">
          colormap
          <select
            class="field"
            value={how.colormap ?? "gray"}
            disabled={channels > 2 && how.channel === null}
            title={channels > 2 && how.channel === null ? "Choose one channel first" : undefined}
            onChange={({ currentTarget: { value } }) => change({ map: value })}
          >
            {colormaps.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <NanColor how={how} onColor={(nan) => change({ nan })} />
      </div>
      <div class="row">
        <Button onClick={() => copy(ruleOf(mediaKey, how), "Rule copied")}>Copy rule</Button>
        <Button
          disabled={dev === null}
          title="Show all cells of this key in the grid with this range"
          onClick={() =>
            push(gridOf({ ...view.peek(), dev: rangeOnly(dev ?? PLAIN, how), devkey: mediaKey }))
          }
        >
          Hold for key
        </Button>
      </div>
    </Panel>
  );
}

/** The settings with their range in numbers, so that all cells have the same one. */
function rangeOnly(dev: DevelopView, { low, high }: Develop): DevelopView {
  return { ...dev, low, high };
}

/** Chooses the range, once or for each picture. */
function RangeButtons({ dev, histogram, auto, onDev, onAuto }: DevelopProps) {
  const choose = (kind: AutoRange) => {
    const range = histogram && autoRange(histogram, kind);
    if (!range) return;
    onDev({ ...(dev ?? PLAIN), low: range[0], high: range[1] });
    if (auto !== null) onAuto(kind);
  };
  return (
    <div class="stack">
      <div class="row">
        <Button disabled={!histogram} onClick={() => choose("extremes")}>
          min–max
        </Button>
        <Button disabled={!histogram?.percentiles} onClick={() => choose("percentiles")}>
          1–99 %
        </Button>
        <Button
          aria-pressed={dev === null}
          onClick={() => {
            onDev(null);
            onAuto(null);
          }}
        >
          as stored
        </Button>
      </div>
      <label class="check">
        <input
          type="checkbox"
          checked={auto === null}
          onChange={(event) => onAuto(event.currentTarget.checked ? null : "extremes")}
        />
        Hold the range, so that steps compare
      </label>
    </div>
  );
}

/** The range of one picture. */
export function autoRange(histogram: Histogram, kind: AutoRange): [number, number] | null {
  const range = kind === "extremes" ? extent(histogram) : histogram.percentiles;
  if (!range) return null;
  const [low, high] = range;
  return high > low ? [low, high] : [low, low + 1];
}

/** A number that counts once it is typed in full. What is typed stays if the page is drawn again meanwhile. */
export function Numeric({
  name,
  value,
  onValue,
}: {
  name: string;
  value: number;
  onValue: (value: number) => void;
}) {
  const [typed, setTyped] = useState<string | null>(null);
  return (
    <label class="labelled">
      {name}
      <input
        class="field num"
        type="number"
        step="any"
        value={typed ?? Number(value.toPrecision(7))}
        onInput={(event) => setTyped(event.currentTarget.value)}
        onBlur={() => setTyped(null)}
        onChange={(event) => {
          const to = event.currentTarget.valueAsNumber;
          setTyped(null);
          if (Number.isFinite(to)) onValue(to);
        }}
      />
    </label>
  );
}

const NAN_FIRST = "ff00ff";

function NanColor({ how, onColor }: { how: Develop; onColor: (color: string) => void }) {
  const digits = how.nanColor ? hexColor(how.nanColor).slice(1) : null;
  return (
    <div class="labelled">
      <label class="check">
        <input
          type="checkbox"
          checked={digits !== null}
          onChange={(event) => onColor(event.currentTarget.checked ? NAN_FIRST : "")}
        />
        NaN color
      </label>
      <input
        class="field"
        type="color"
        aria-label="Color of NaN"
        disabled={digits === null}
        value={`#${digits ?? NAN_FIRST}`}
        onInput={({ currentTarget: { value } }) => parseHexColor(value) && onColor(value.slice(1))}
      />
    </div>
  );
}
