import { figure, KINDS, type Kind, usualColormap, usualRange, withKind } from "../picture/difference";
import { channelNames, printed } from "../picture/loupe";
import { isOn } from "../picture/panels";
import { countText, nameOf, placeText } from "../picture/words";
import type { Point } from "../picture/zoom";
import type { Comparison, Differences, Proof } from "../state/api.types";
import { replace, view } from "../state/route";
import { info } from "../state/store";
import type { Develop } from "../state/url";
import { ColorBar } from "./ColorBar";
import { Numeric, PLAIN } from "./DevelopPanel";
import { Panel } from "./Panel";
import { Button, Skeleton } from "./parts";
import type { Shown } from "./shown";
import { type KnownValues, useValues } from "./values";

interface ComparePanelsProps {
  a: Shown;
  b: Shown;
  chosen: number;
  pixel: Point | null;
  onPixel: (pixel: Point) => void;
  kind: Kind;
  dev: Develop | null;
  figures: Comparison | undefined;
  error: Error | undefined;
  /** Null: as *A*'s rule says. */
  peak: number | null;
  onPeak: (peak: number | null) => void;
}

/** Figures, values and the settings of the map. */
export function ComparePanels(props: ComparePanelsProps) {
  const { way, show } = view.value;
  return (
    <aside class="side" aria-label="Panels">
      <Figures {...props} />
      <Values {...props} isOpen={isOn(show, "loupe")} />
      {way === "map" && <MapSettings {...props} />}
      <Pictures {...props} />
    </aside>
  );
}

const ROWS: [name: string, title: string, get: (of: Differences) => string][] = [
  ["MSE", "Mean squared error", ({ mse }) => figure(mse, 4)],
  ["MAE", "Mean absolute error", ({ mae }) => figure(mae, 4)],
  ["max |d|", "Greatest absolute difference", ({ max }) => figure(max, 4)],
  [
    "PSNR, dB",
    "Peak signal-to-noise ratio",
    ({ psnr, mse }) => (psnr === null ? (mse === 0 ? "equal" : "–") : figure(psnr, 4)),
  ],
  ["SSIM", "Structural similarity", ({ ssim }) => figure(ssim, 4)],
];

function Figures({ chosen, figures, error, peak, onPeak, onPixel }: ComparePanelsProps) {
  const whole = figures?.whole;
  const several = figures && figures.channels.length > 1 ? figures.channels : [];
  const names = channelNames(several.length);
  return (
    <Panel title="Figures" note={`${nameOf(chosen + 1)} against A`}>
      {error && <p class="note is-warning">{error.message}</p>}
      {figures?.reason && <p class="note">{figures.reason}</p>}
      {!figures && !error && <Skeleton height={120} />}
      {whole && (
        <>
          <div class="scroll-x">
            <table class="table">
              <thead>
                <tr>
                  <th scope="col">
                    <span class="sr-only">figure</span>
                  </th>
                  <th scope="col">all</th>
                  {several.map((_, channel) => (
                    <th key={names[channel]} scope="col">
                      {names[channel]}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {ROWS.map(([name, title, get]) => (
                  <tr key={name}>
                    <th scope="row" title={title}>
                      {name}
                    </th>
                    {[whole, ...several].map((of, column) => (
                      <td key={column === 0 ? "all" : names[column - 1]} class="mono num">
                        {get(of)}
                      </td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {whole.at && (
            <p class="hint">
              max |d| at{" "}
              <Button kind="plain" onClick={() => goTo(whole.at, onPixel)}>
                x {whole.at[0]}, y {whole.at[1]}
              </Button>
              {several.length > 1 && ` in ${names[whole.at[2]]}`}
            </p>
          )}
          <p class="hint num">
            over {countText(whole.n_finite)} values finite in both
            {whole.n_other > 0 && `; ${countText(whole.n_other)} others left out`}
          </p>
        </>
      )}
      {figures && figures.reason === null && (
        <label class="labelled is-row">
          peak
          <input
            class="field num"
            type="number"
            step="any"
            min={0}
            value={figures.peak}
            onChange={(event) => {
              const to = event.currentTarget.valueAsNumber;
              onPeak(to > 0 ? to : null);
            }}
          />
          {peak !== null && (
            <Button kind="plain" onClick={() => onPeak(null)}>
              as A’s rule
            </Button>
          )}
        </label>
      )}
    </Panel>
  );
}

function goTo(at: readonly [number, number, number] | null, onPixel: (pixel: Point) => void): void {
  if (!at) return;
  onPixel({ x: at[0], y: at[1] });
  const { z } = view.peek();
  replace({ z: { scale: Math.max(8, z?.scale ?? 0), x: at[0] + 0.5, y: at[1] + 0.5 } });
}

/** The values of both pictures under the pointer. */
function Values({ a, b, chosen, pixel, isOpen }: ComparePanelsProps & { isOpen: boolean }) {
  const [ofA, ofB] = [useValues(a), useValues(b)];
  const n = Math.max(ofA.channels, ofB.channels);
  const note = pixel ? `x ${pixel.x}, y ${pixel.y}` : undefined;
  return (
    <Panel title="Loupe" name="loupe" isOpen={isOpen} note={note}>
      <table class="table is-even">
        <thead>
          <tr>
            <th scope="col">channel</th>
            <th scope="col">A</th>
            <th scope="col">{nameOf(chosen + 1)}</th>
            <th scope="col">{nameOf(chosen + 1)} − A</th>
          </tr>
        </thead>
        <tbody>
          {channelNames(n).map((name, channel) => {
            const [left, right] = [at(ofA, pixel, channel), at(ofB, pixel, channel)];
            return (
              <tr key={name}>
                <th scope="row">
                  <span class={`channel is-${name.toLowerCase()}`}>{name}</span>
                </th>
                <td class="mono num">{left ?? "–"}</td>
                <td class="mono num">{right ?? "–"}</td>
                <td class="mono num">
                  {left === null || right === null ? "–" : figure(numberOf(right) - numberOf(left))}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Panel>
  );
}

function at(values: KnownValues, pixel: Point | null, channel: number): string | null {
  const near = pixel && values.near(pixel.x, pixel.y);
  if (!near || channel >= near.tensor.channels) return null;
  const [x, y] = [pixel.x - near.x, pixel.y - near.y];
  return x < near.tensor.width && y < near.tensor.height ? printed(near.tensor, x, y, channel) : null;
}

/** Reads a number that NumPy printed. */
function numberOf(text: string): number {
  const named: Readonly<Record<string, number>> = {
    True: 1,
    False: 0,
    inf: Number.POSITIVE_INFINITY,
    "-inf": Number.NEGATIVE_INFINITY,
  };
  return named[text] ?? Number(text);
}

function MapSettings({ kind, dev, figures }: ComparePanelsProps) {
  const usual = usualRange(kind, figures);
  const [low, high] = [dev?.low ?? usual[0], dev?.high ?? usual[1]];
  const map = dev?.map || usualColormap(kind);
  const change = (to: Partial<Develop>) => replace({ dev: { ...(dev ?? PLAIN), ...to } });
  return (
    <Panel title="Difference map">
      <ColorBar map={map} low={low} high={high} />
      <div class="fields">
        <label class="labelled">
          kind
          <select
            class="field"
            value={kind}
            onChange={({ currentTarget: { value } }) => {
              const { show } = view.peek();
              replace({ show: withKind(show, value as Kind), dev: null });
            }}
          >
            {KINDS.map((one) => (
              <option key={one} value={one}>
                {one === "ssim" ? "SSIM" : one}
              </option>
            ))}
          </select>
        </label>
        <label class="labelled">
          colormap
          <select class="field" value={map} onChange={(event) => change({ map: event.currentTarget.value })}>
            {(info.value?.colormaps ?? [map]).map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <Numeric name="low" value={low} onValue={(to) => change({ low: to, high })} />
        <Numeric name="high" value={high} onValue={(to) => change({ low, high: to })} />
      </div>
      {dev && (
        <Button kind="plain" onClick={() => replace({ dev: null })}>
          Usual range and colors
        </Button>
      )}
    </Panel>
  );
}

/** Which pictures these are, and whose values were compared. */
function Pictures({ a, b, chosen, figures }: ComparePanelsProps) {
  const rows: [string, Shown, Proof | null | undefined][] = [
    ["A", a, figures?.proofs[0]],
    [nameOf(chosen + 1), b, figures?.proofs[1]],
  ];
  return (
    <Panel title="Pictures">
      <dl class="facts">
        {rows.map(([name, { place, size, details }, proof]) => (
          <div class="fact is-narrow" key={name}>
            <dt>{name}</dt>
            <dd>
              <b>{placeText(place)}</b>
              <br />
              <span class="muted">
                {place.run} · {size.width} × {size.height}
                {proof !== undefined && (proof ? " · the dump’s values" : " · the stored picture’s values")}
              </span>
              {details.item.caption !== null && <p class="caption">{details.item.caption}</p>}
            </dd>
          </div>
        ))}
      </dl>
    </Panel>
  );
}
