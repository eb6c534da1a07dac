import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import {
  type Box,
  boxLabel,
  isShown,
  type LayerSettings,
  maskPixels,
  type Overlays,
  settingsOf,
} from "../picture/overlay";
import type { Size } from "../picture/zoom";
import { className, colorOf, cssColor, type LoadedLayer, layerKey } from "./layers";
import type { Geometry } from "./Stage";

/** More boxes than that are not drawn at once; those with the highest scores are. */
const BOXES_MAX = 2000;
/** Labels of more boxes than that would hide the picture. */
const LABELS_MAX = 200;

interface OverlayProps {
  layers: readonly LoadedLayer[];
  overlays: Overlays;
  size: Size;
  geometry: Geometry;
}

/** Boxes and masks above a picture. */
export function Overlay({ layers, overlays, size, geometry }: OverlayProps) {
  if (overlays.isOff) return null;
  // Boxes lie above masks.
  const ordered = [...layers.filter(({ mask }) => mask), ...layers.filter(({ mask }) => !mask)];
  const shown = ordered.filter(({ layer }) => !settingsOf(overlays, layer).isHidden);
  return (
    <div class="overlay" aria-hidden="true">
      {shown.map((loaded) => {
        const settings = settingsOf(overlays, loaded.layer);
        const all = { loaded, settings, size, geometry };
        return loaded.mask ? (
          <MaskLayer key={layerKey(loaded)} {...all} />
        ) : (
          <BoxLayer key={layerKey(loaded)} {...all} />
        );
      })}
    </div>
  );
}

interface LayerProps {
  loaded: LoadedLayer;
  settings: LayerSettings;
  size: Size;
  geometry: Geometry;
}

function MaskLayer({ loaded, settings, size, geometry }: LayerProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { mask, layer } = loaded;
  useLayoutEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!mask || !context) return;
    const pixels = maskPixels(mask, settings, (id) => colorOf(layer, id));
    context.putImageData(new ImageData(pixels, mask.width, mask.height), 0, 0);
  }, [mask, layer, settings]);
  if (!mask) return null;
  const { left, top, scale } = geometry;
  const style = {
    width: `${size.width * scale}px`,
    height: `${size.height * scale}px`,
    transform: `translate(${left}px, ${top}px)`,
  };
  return <canvas ref={canvas} class="overlay-mask" width={mask.width} height={mask.height} style={style} />;
}

function BoxLayer({ loaded, settings, geometry }: LayerProps) {
  const { boxes, layer } = loaded;
  const shown = useMemo(() => {
    const passed = (boxes ?? []).filter((box) => isShown(box, settings));
    return passed.length > BOXES_MAX ? passed.sort((a, b) => best(b) - best(a)).slice(0, BOXES_MAX) : passed;
  }, [boxes, settings]);
  const { left, top, scale } = geometry;
  const drawn = useMemo(
    () =>
      shown.map((box, at) => {
        const color = cssColor(colorOf(layer, box.classId));
        const style = { stroke: color, fill: settings.isFilled ? color : "none" };
        return (
          <g key={at} class="box">
            <rect class="box-edge" x={box.left} y={box.top} width={box.width} height={box.height} />
            <rect x={box.left} y={box.top} width={box.width} height={box.height} style={style}>
              <title>{boxLabel(box, className(layer, box.classId))}</title>
            </rect>
          </g>
        );
      }),
    [shown, layer, settings.isFilled],
  );
  return (
    <svg class="overlay-boxes" style={{ opacity: settings.opacity }} aria-hidden="true">
      <g transform={`translate(${left} ${top}) scale(${scale})`}>{drawn}</g>
      {shown.length <= LABELS_MAX &&
        shown.map((box, at) => {
          const label = boxLabel(box, className(layer, box.classId));
          const color = cssColor(colorOf(layer, box.classId));
          const [x, y] = [left + box.left * scale, top + box.top * scale];
          return label && <Label key={at} {...{ label, color, x, y }} />;
        })}
    </svg>
  );
}

function best({ scores }: Box): number {
  return Math.max(Number.NEGATIVE_INFINITY, ...Object.values(scores));
}

const LETTERS_MAX = 40;

/** A box's words on a ground of its color. */
function Label({ label, color, x, y }: { label: string; color: string; x: number; y: number }) {
  const text = label.length > LETTERS_MAX ? `${label.slice(0, LETTERS_MAX)}…` : label;
  return (
    <g transform={`translate(${x} ${Math.max(0, y - 16)})`}>
      <rect class="box-ground" width={text.length * 6.7 + 8} height={16} style={{ fill: color }} />
      <text class={isLight(color) ? "box-label is-dark" : "box-label"} x={4} y={12}>
        {text}
      </text>
    </g>
  );
}

/** Whether dark letters are read more easily on a color. */
function isLight(color: string): boolean {
  const [red = 0, green = 0, blue = 0] = (color.match(/\d+/g) ?? []).map(Number);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 110;
}
