import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Kind, RATES, usualColormap, usualRange } from "../picture/difference";
import { loadBitmap } from "../picture/load";
import type { Backdrop } from "../picture/panels";
import { nameOf, placeText } from "../picture/words";
import { linked, type Point, type Size, type Zoom } from "../picture/zoom";
import { apiUrl } from "../state/api";
import type { Comparison } from "../state/api.types";
import { useLoaded } from "../state/loaded";
import { replace, view } from "../state/route";
import { type Develop, formatPlace } from "../state/url";
import { choose, type FlickerState } from "./comparekeys";
import { Close } from "./icons";
import { NoPictureNote } from "./NoPicture";
import { Button, KeyButton } from "./parts";
import { Stage } from "./Stage";
import { hasAlpha, type Shown } from "./shown";

export interface WayProps {
  a: Shown;
  /** The one that is compared with *A*. */
  b: Shown;
  others: readonly Shown[];
  /** The place of `b` among the others. */
  chosen: number;
  /** In pixels of *A*. */
  zoom: Zoom | null;
  onZoom: (zoom: Zoom | null) => void;
  onScreen: (screen: Size) => void;
  pixel: Point | null;
  onPixel: (pixel: Point | null) => void;
  isSmooth: boolean;
  backdrop: Backdrop;
}

/** What all stages of the page have: no marks, no numbers and no rectangle. */
function plain({ onPixel, backdrop, isSmooth, pixel }: WayProps) {
  return { onPixel, backdrop, isSmooth, pixel, marks: null, numbers: null, rectangle: null };
}

interface PictureProps extends WayProps {
  shown: Shown;
  at: number;
  children?: ComponentChildren;
}

/** One of the pictures, with the zoom of all. */
function Picture({ shown, at, children, ...way }: PictureProps) {
  const { a, zoom, onZoom, onScreen } = way;
  return (
    <Stage
      size={shown.size}
      zoom={zoom && linked(zoom, a.size, shown.size)}
      onZoom={(to) => onZoom(to && linked(to, shown.size, a.size))}
      {...(at === 0 && { onScreen })}
      {...plain(way)}
      picture={shown.bitmap && { bitmap: shown.bitmap, part: { x: 0, y: 0, ...shown.size } }}
      hasAlpha={hasAlpha(shown)}
      label={`${nameOf(at)}: ${placeText(shown.place)}`}
    >
      <NoPictureNote shown={shown} />
      {children}
    </Stage>
  );
}

/** The picture's name on its corner. */
function Tag({ at, shown, isChosen }: { at: number; shown: Shown; isChosen: boolean }) {
  return (
    <span class={isChosen ? "tag is-chosen" : "tag"}>
      <b>{nameOf(at)}</b> <bdi class="cut">{placeText(shown.place)}</bdi>
    </span>
  );
}

/** All pictures beside each other. */
export function SideBySide(way: WayProps) {
  const { a, others, chosen } = way;
  const all = [a, ...others];
  const columns = all.length <= 3 ? all.length : Math.ceil(Math.sqrt(all.length));
  return (
    <div class="side-by-side" style={{ gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))` }}>
      {all.map((shown, at) => (
        <figure key={formatPlace(shown.place) + String(at)} class="compared">
          <figcaption class="compared-head">
            <Button
              kind="plain"
              class="compared-name"
              aria-pressed={at === chosen + 1}
              disabled={at === 0}
              title={`${shown.place.run} · ${placeText(shown.place)}`}
              onClick={() => choose(at - 1, others.length)}
            >
              <b>{nameOf(at)}</b>
              <bdi class="cut">{placeText(shown.place)}</bdi>
              <bdi class="cut muted">{shown.place.run}</bdi>
            </Button>
            {at > 0 && (
              <Button kind="plain" icon aria-label={`Remove ${nameOf(at)}`} onClick={() => remove(at - 1)}>
                <Close />
              </Button>
            )}
          </figcaption>
          <div class="compared-stage">
            <Picture {...way} shown={shown} at={at} />
          </div>
        </figure>
      ))}
    </div>
  );
}

function remove(at: number): void {
  const { b, index } = view.peek();
  replace({ b: b.filter((_, i) => i !== at), index: index > at ? index - 1 : index });
}

/** *A* to the left of a line, the other picture to its right. */
export function Swipe(way: WayProps) {
  const { a, b, chosen } = way;
  const [place, setPlace] = useState(50);
  return (
    <>
      <Picture {...way} shown={a} at={0} />
      <div class="swipe" style={{ clipPath: `inset(0 0 0 ${place}%)` }}>
        <Picture {...way} shown={b} at={chosen + 1} />
      </div>
      <div class="swipe-line" style={{ left: `${place}%` }} aria-hidden="true" />
      <input
        class="swipe-range"
        type="range"
        min={0}
        max={100}
        step={0.5}
        value={place}
        aria-label={`Line between A and ${nameOf(chosen + 1)}`}
        aria-valuetext={`${Math.round(place)} % A`}
        onInput={(event) => setPlace(event.currentTarget.valueAsNumber)}
      />
      <div class="tags">
        <Tag at={0} shown={a} isChosen={false} />
        <Tag at={chosen + 1} shown={b} isChosen />
      </div>
    </>
  );
}

/** *A* and the other picture in turns. */
export function Flicker({ flicker, ...way }: WayProps & { flicker: FlickerState }) {
  const { a, b, chosen } = way;
  const { isHeld, hold, isAuto, setAuto, rate, setRate } = flicker;
  const [isOther, setOther] = useState(false);
  useEffect(() => {
    setOther(false);
    if (!isAuto) return;
    const timer = setInterval(() => setOther((last) => !last), 500 / rate);
    return () => clearInterval(timer);
  }, [isAuto, rate]);
  const isB = isHeld !== isOther;
  return (
    <>
      <Picture {...way} shown={isB ? b : a} at={isB ? chosen + 1 : 0} />
      <div class="tags">
        <Tag at={isB ? chosen + 1 : 0} shown={isB ? b : a} isChosen={isB} />
      </div>
      <div class="way-bar">
        <Button
          aria-pressed={isHeld}
          title="Hold to see the other picture (Space)"
          onPointerDown={() => hold(true)}
          onPointerUp={() => hold(false)}
          onPointerLeave={() => hold(false)}
          onKeyDown={(event) => event.key === " " && hold(true)}
        >
          Hold
        </Button>
        <Button aria-pressed={isAuto} onClick={() => setAuto(!isAuto)}>
          Automatic
        </Button>
        <KeyButton name="slower" kind="plain" icon disabled={rate === RATES[0]}>
          <span aria-hidden="true">−</span>
        </KeyButton>
        <label class="check">
          <span class="sr-only">Cycles a second</span>
          <select class="field" value={rate} onChange={(event) => setRate(Number(event.currentTarget.value))}>
            {RATES.map((one) => (
              <option key={one} value={one}>
                {one} Hz
              </option>
            ))}
          </select>
        </label>
        <KeyButton name="faster" kind="plain" icon disabled={rate === RATES.at(-1)}>
          <span aria-hidden="true">+</span>
        </KeyButton>
      </div>
    </>
  );
}

interface MapProps extends WayProps {
  kind: Kind;
  dev: Develop | null;
  figures: Comparison | undefined;
}

/** How much the pictures differ, in colors. */
export function DifferenceMap({ kind, dev, figures, ...way }: MapProps) {
  const { a, b, chosen } = way;
  const range = usualRange(kind, figures);
  const url =
    figures && figures.reason === null
      ? apiUrl("compare.png", {
          a: formatPlace(a.place),
          b: formatPlace(b.place),
          kind,
          low: dev?.low ?? range[0],
          high: dev?.high ?? range[1],
          colormap: dev?.map || usualColormap(kind),
        })
      : null;
  const loaded = useLoaded(url, (signal) => loadBitmap(url ?? "", signal));
  const bitmap = loaded.value;
  const words = figures?.reason ?? loaded.error?.message;
  return (
    <Stage
      size={a.size}
      zoom={way.zoom}
      onZoom={way.onZoom}
      onScreen={way.onScreen}
      {...plain(way)}
      picture={bitmap ? { bitmap, part: { x: 0, y: 0, ...a.size } } : null}
      hasAlpha={false}
      label={`${kind} difference of A and ${nameOf(chosen + 1)}`}
    >
      {words && (
        <div class="stage-note">
          <h2>No difference map</h2>
          <p>{words}</p>
        </div>
      )}
    </Stage>
  );
}
