import { useState } from "preact/hooks";
import {
  type LayerSettings,
  type Overlays,
  scoreRanges,
  settingsOf,
  soloClass,
  soloLayer,
  toggleClass,
  withSettings,
} from "../picture/overlay";
import { countText } from "../picture/words";
import { Eye, EyeOff } from "./icons";
import { classIds, className, colorOf, cssColor, type LoadedLayer, layerKey } from "./layers";
import { Panel } from "./Panel";
import { Button, KeyButton } from "./parts";

interface OverlayPanelProps {
  layers: readonly LoadedLayer[];
  overlays: Overlays;
  onOverlays: (overlays: Overlays) => void;
}

/** Below so many classes nobody needs to search them. */
const SEARCH_FROM = 12;

/** The layers of a picture and their classes. */
export function OverlayPanel({ layers, overlays, onOverlays }: OverlayPanelProps) {
  const [search, setSearch] = useState("");
  const n = layers.reduce((sum, { counts }) => sum + counts.size, 0);
  const note = (
    <KeyButton name="overlays" kind="plain" pressed={!overlays.isOff}>
      {overlays.isOff ? "off" : "on"}
    </KeyButton>
  );
  return (
    <Panel title="Overlays" name="overlays" isOpen={!overlays.isOff} note={note}>
      {n >= SEARCH_FROM && (
        <input
          class="field"
          type="search"
          aria-label="Search classes"
          placeholder="Search classes"
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
      )}
      {layers.map((loaded) => (
        <LayerRows key={layerKey(loaded)} {...{ loaded, layers, overlays, onOverlays, search }} />
      ))}
      <p class="hint">Alt-click an eye: only this one.</p>
    </Panel>
  );
}

function LayerRows({
  loaded,
  layers,
  overlays,
  onOverlays,
  search,
}: OverlayPanelProps & { loaded: LoadedLayer; search: string }) {
  const { layer, boxes, error } = loaded;
  const settings = settingsOf(overlays, layer);
  const change = (to: Partial<LayerSettings>) => onOverlays(withSettings(overlays, layer, to));
  const all = layers.map((other) => other.layer);
  const ids = classIds(loaded);
  const wanted = search.trim().toLowerCase();
  const found = ids.filter((id) => className(layer, id).toLowerCase().includes(wanted));
  return (
    <section class="layer" aria-label={`${layer.kind} ${layer.name}`}>
      <div class="row">
        <EyeButton
          name={layer.name}
          isOn={!settings.isHidden}
          onToggle={() => change({ isHidden: !settings.isHidden })}
          onSolo={() => onOverlays(soloLayer(overlays, all, layer))}
        />
        <h3 class="cut" title={layer.name}>
          {layer.name}
        </h3>
        <span class="muted">{layer.kind === "mask" ? "mask" : `${boxes?.length ?? 0} boxes`}</span>
        <Button kind="plain" onClick={() => change({ isFilled: !settings.isFilled })}>
          {settings.isFilled ? "fill" : "outline"}
        </Button>
      </div>
      {error && <p class="note is-warning">{error}</p>}
      <Slider
        name="opacity"
        value={settings.opacity}
        low={0}
        high={1}
        onValue={(opacity) => change({ opacity })}
        text={`${Math.round(settings.opacity * 100)} %`}
      />
      {scoreRanges(boxes ?? []).map(([name, low, high]) => (
        <Slider
          key={name}
          name={`${name} ≥`}
          low={low}
          high={high}
          value={settings.scores[name] ?? low}
          onValue={(least) => change({ scores: { ...settings.scores, [name]: least } })}
          text={String(Number((settings.scores[name] ?? low).toFixed(2)))}
        />
      ))}
      <ul class="classes">
        {found.map((id) => (
          <li key={id} class="row">
            <EyeButton
              name={className(layer, id)}
              isOn={!settings.hidden.includes(id)}
              onToggle={() => onOverlays(toggleClass(overlays, layer, id))}
              onSolo={() => onOverlays(soloClass(overlays, layer, ids, id))}
            />
            <span class="swatch" style={{ background: cssColor(colorOf(layer, id)) }} aria-hidden="true" />
            <span class="cut">{className(layer, id)}</span>
            <span class="num mono muted">{countText(loaded.counts.get(id) ?? 0)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function EyeButton({
  name,
  isOn,
  onToggle,
  onSolo,
}: {
  name: string;
  isOn: boolean;
  onToggle: () => void;
  onSolo: () => void;
}) {
  return (
    <Button
      kind="plain"
      icon
      class="eye"
      aria-pressed={isOn}
      aria-label={`Show ${name}`}
      title={`Show ${name} (Alt-click: only this)`}
      onClick={(event) => (event.altKey ? onSolo() : onToggle())}
    >
      {isOn ? <Eye /> : <EyeOff />}
    </Button>
  );
}

interface SliderProps {
  name: string;
  value: number;
  low: number;
  high: number;
  text: string;
  onValue: (value: number) => void;
}

function Slider({ name, value, low, high, text, onValue }: SliderProps) {
  return (
    <label class="slider-row">
      <span class="cut">{name}</span>
      <input
        type="range"
        min={low}
        max={high}
        step={(high - low) / 100}
        value={value}
        aria-valuetext={text}
        onInput={(event) => onValue(event.currentTarget.valueAsNumber)}
      />
      <output class="num mono">{text}</output>
    </label>
  );
}
