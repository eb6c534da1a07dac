import { useEffect, useRef, useState } from "preact/hooks";
import "./Item.css";
import { nextOdd } from "../picture/develop";
import { params } from "../picture/load";
import { brief, printed } from "../picture/loupe";
import { formatOverlays, parseOverlays } from "../picture/overlay";
import { areMarksOn, autoRangeOf, backdropOf, isOn, marksToggled, withAutoRange } from "../picture/panels";
import { centredOn, fitted, type Point, type Rectangle, type Size, visiblePart } from "../picture/zoom";
import { apiUrl, isNotFound } from "../state/api";
import type { Histogram, KeyRow } from "../state/api.types";
import { shownStep, useKeySteps, useKeyVersion } from "../state/keysteps";
import { useAnswer } from "../state/resource";
import { replace, view } from "../state/route";
import { info } from "../state/store";
import { type Develop as DevelopView, formatPlace, type Place, type View } from "../state/url";
import { CompareTray } from "./CompareTray";
import { autoRange, DevelopPanel, PLAIN } from "./DevelopPanel";
import { Facts } from "./Facts";
import { HistogramPanel } from "./HistogramPanel";
import { howOf, rangeOf } from "./how";
import { ItemBar, ZoomBar } from "./ItemBar";
import { CopyMenu, DownloadMenu } from "./ItemMenus";
import { releaseButton, useItemKeys } from "./itemkeys";
import { LoupePanel } from "./LoupePanel";
import { useLayers } from "./layers";
import { MarksPanel } from "./MarksPanel";
import { ItemSkeleton, NoItem } from "./NoItem";
import { NoPictureNote } from "./NoPicture";
import { Overlay } from "./Overlay";
import { OverlayPanel } from "./OverlayPanel";
import { KeyButton } from "./parts";
import { Slider } from "./Slider";
import { Stage } from "./Stage";
import { type Shown, useNeighbours, useShown } from "./shown";
import { usePlayer, type ZoomingPlayer } from "./usePlayer";
import { type KnownValues, useDeveloped, useValues } from "./values";

/** One picture, with all that is known of it. */
export function Item() {
  const { run: runs, key, step: asked, index, dev, show } = view.value;
  const run = runs[0] ?? "";
  const steps = useKeySteps(run, key);
  const step = shownStep(steps, asked);
  const keys = useAnswer<KeyRow[]>(run ? apiUrl("keys", { run }) : null).value ?? [];
  const place: Place | null = run && key && step !== null ? { run, key, step, index } : null;
  const version = useKeyVersion(run, key);
  const loaded = useShown(place, version);
  const shown = loaded.value;
  useNeighbours(shown, version, dev !== null || areMarksOn(show, shown !== undefined && isOddItem(shown)));
  const player = usePlayer(steps ? [steps] : []);
  if (!run || !key) return <NoItem title="No item is chosen" run={run} />;
  if (steps && step === null) {
    return (
      <NoItem
        title={steps.length > 0 ? `${key} begins later` : `${key} has no images`}
        run={run}
        steps={steps}
      />
    );
  }
  // A step between two of the key is none until its steps are known.
  if (loaded.error && (steps || !isNotFound(loaded.error))) {
    return <NoItem title={key} run={run} error={loaded.error} />;
  }
  if (!shown) return <ItemSkeleton />;
  return <ShownItem shown={shown} keys={keys} player={player} />;
}

interface ShownProps {
  shown: Shown;
  keys: readonly KeyRow[];
  player: ZoomingPlayer;
}

/** The picture with what is made of its values. The last one stays until the next one is made whole, so that a picture
 * that is developed never flashes as it is stored. */
function ShownItem({ shown: next, keys, player }: ShownProps) {
  const { z, dev, show } = view.value;
  const [screen, setScreen] = useState<Size>({ width: 0, height: 0 });
  const values = useValues(next);
  const histogram = useHistogram(next, isOn(show, "histogram") || isOn(show, "develop"));
  useAutoRange(histogram.value);
  const { dump } = next.details;
  const how = howOf(dev, dump.span, histogram.value, values.isProved, next.details.item.colormap);
  const areOn = areMarksOn(show, isOddItem(next));
  // The bytes of a stored picture have neither NaN nor infinities.
  const marked = areOn && values.isProved ? rangeOf(dev, dump.span, how) : null;
  const zoom = z ?? fitted(next.size, screen, !isOn(show, "smooth"));
  const region = z ? visiblePart(zoom, screen, next.size) : null;
  const made = useDeveloped(
    next,
    values,
    how,
    dev !== null,
    marked,
    region,
    Math.max(screen.width, screen.height),
  );
  const all = { shown: next, values, histogram, how, areOn, made };
  const canBeMade = values.isProved ? values.isComing || values.whole !== null : next.bitmap !== null;
  const isMade = made !== null || (!dev && !marked) || !canBeMade;
  const last = useRef(all);
  if (useIsLate(next) || isMade) last.current = all;
  return <ItemView {...last.current} {...{ keys, player, screen, setScreen }} />;
}

/** How long the last picture stays at most while the next one is developed. */
const LATE_MS = 1_000;

/** Whether something has been there for a while. */
function useIsLate(of: unknown): boolean {
  const [late, setLate] = useState<unknown>(null);
  useEffect(() => {
    const timer = setTimeout(() => setLate(of), LATE_MS);
    return () => clearTimeout(timer);
  }, [of]);
  return late === of;
}

/** Whether a picture's values are not all finite. */
function isOddItem({ details: { item } }: Shown): boolean {
  return (item.stats?.nan ?? 0) + (item.stats?.inf ?? 0) > 0;
}

interface ItemViewProps extends ShownProps {
  values: KnownValues;
  histogram: ReturnType<typeof useHistogram>;
  how: ReturnType<typeof howOf>;
  /** Whether marks are on. */
  areOn: boolean;
  made: ReturnType<typeof useDeveloped>;
  screen: Size;
  setScreen: (screen: Size) => void;
}

function ItemView(props: ItemViewProps) {
  const { shown, values, histogram, how, areOn, made, keys, player, screen, setScreen } = props;
  const { step: asked, z, dev, ov, show } = view.value;
  const { details, place, size } = shown;
  const { item, dump } = details;
  const root = useRef<HTMLDivElement>(null);
  const [pixel, setPixel] = useState<Point | null>(null);
  const [rectangle, setRectangle] = useState<Rectangle | null>(null);
  const isOdd = isOddItem(shown);
  const isSmooth = isOn(show, "smooth");
  const zoom = z ?? fitted(size, screen, !isSmooth);
  const stored = shown.bitmap && { bitmap: shown.bitmap, part: { x: 0, y: 0, ...size } };
  const picture = made?.picture ?? stored;
  const layers = useLayers(shown);
  const overlays = parseOverlays(ov);
  const change = (to: Partial<View>) => replace(to);
  const setDev = (to: DevelopView | null) => change({ dev: to });
  const goTo = (to: Point) => {
    setPixel(to);
    if (z) change({ z: centredOn(z, to, z.scale) });
  };
  const codes = made?.marks?.codes;
  const goToNextNan = (marks: NonNullable<typeof codes>) => {
    const at = nextOdd(marks, pixel ? pixel.y * size.width + pixel.x : -1);
    if (at === null) return;
    const to = { x: at % size.width, y: Math.floor(at / size.width) };
    setPixel(to);
    change({ z: centredOn(zoom, to, Math.max(8, zoom.scale)) });
  };
  // The picture whose next NaN was asked for before its marks were made.
  const [awaited, setAwaited] = useState<string | null>(null);
  const shownPlace = formatPlace(place);
  useEffect(() => {
    if (awaited !== shownPlace || !codes) return;
    setAwaited(null);
    goToNextNan(codes);
  }, [awaited, shownPlace, codes]);
  const { channels } = values;
  const hasAlpha = channels === 2 || channels === 4 || item.mode === "RGBA" || item.mode === "LA";
  useItemKeys({
    shown,
    keys,
    screen,
    size,
    root,
    isOdd,
    hasAlpha,
    hasLayers: layers.length > 0,
    player,
    nextNan: () => {
      // What is gone to must be seen.
      if (!areOn) change({ show: marksToggled(show, isOdd) });
      if (codes) goToNextNan(codes);
      else setAwaited(shownPlace);
    },
  });
  const label = `${place.key}, step ${place.step}, index ${place.index}${item.caption ? `, ${item.caption}` : ""}`;
  // Why there is no image matters more than its values.
  const hasPicture = shown.bitmap !== null || values.isProved;
  const isFirst = item.state !== "image";
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: it only lets go of a button that the pointer has pressed.
    // biome-ignore lint/a11y/noStaticElementInteractions: as above.
    <div class="item" ref={root} onClick={releaseButton}>
      <ItemBar
        run={place.run}
        itemKey={place.key}
        keys={keys}
        step={place.step}
        asked={asked}
        index={place.index}
        indices={details.indices}
      >
        <CopyMenu shown={shown} bitmap={picture?.bitmap ?? null} />
        <DownloadMenu shown={shown} how={dev && how} />
      </ItemBar>
      <div class="item-main">
        <Stage
          size={size}
          zoom={z}
          onZoom={(to) => change({ z: to })}
          onPixel={(to) => to && setPixel(to)}
          onRectangle={setRectangle}
          onScreen={setScreen}
          picture={picture}
          hasAlpha={hasAlpha}
          backdrop={backdropOf(show)}
          isSmooth={isSmooth}
          marks={areOn ? (made?.marks ?? null) : null}
          numbers={isOn(show, "loupe") ? numbersOf(values) : null}
          pixel={pixel}
          rectangle={rectangle}
          label={label}
          above={(geometry) => <Overlay {...{ layers, overlays, size, geometry }} />}
        >
          <NoPictureNote shown={shown} />
          {hasPicture && (
            <ZoomBar scale={zoom.scale} isFit={z === null}>
              <KeyButton name="smooth" kind="plain" pressed={isSmooth}>
                Smooth
              </KeyButton>
              {hasAlpha && (
                <KeyButton name="backdrop" kind="plain">
                  {backdropOf(show)}
                </KeyButton>
              )}
            </ZoomBar>
          )}
        </Stage>
      </div>
      <div class="item-foot">
        <CompareTray />
        <Slider player={player} />
      </div>
      <aside class="side" aria-label="Panels">
        {isFirst && <Facts details={details} />}
        {hasPicture && (
          <>
            <LoupePanel
              isOpen={isOn(show, "loupe")}
              onPixel={goTo}
              onRectangle={setRectangle}
              {...{ size, values, dump, pixel, rectangle }}
            />
            {layers.length > 0 && (
              <OverlayPanel
                layers={layers}
                overlays={overlays}
                onOverlays={(to) => change({ ov: formatOverlays(to) ?? "" })}
              />
            )}
            <HistogramPanel
              isOpen={isOn(show, "histogram")}
              isLogarithmic={isOn(show, "logarithmic")}
              histogram={histogram.value}
              error={histogram.error}
              range={[how.low, how.high]}
              onRange={([low, high]) => setDev({ ...(dev ?? PLAIN), low, high })}
            />
            <DevelopPanel
              isOpen={isOn(show, "develop")}
              mediaKey={place.key}
              colormaps={info.value?.colormaps ?? ["gray"]}
              histogram={histogram.value}
              auto={autoRangeOf(show)}
              onDev={setDev}
              onAuto={(auto) => change({ show: withAutoRange(show, auto) })}
              {...{ dev, how, channels }}
            />
            <MarksPanel areOn={areOn} counts={made?.marks?.counts ?? null} />
          </>
        )}
        {!isFirst && <Facts details={details} />}
      </aside>
    </div>
  );
}

/** The numbers that stand in pixels, one for each channel. */
function numbersOf(values: KnownValues) {
  return (x: number, y: number) => {
    const near = values.near(x, y);
    if (!near) return null;
    const { tensor } = near;
    const [column, row] = [x - near.x, y - near.y];
    return Array.from({ length: tensor.channels }, (_, channel) => {
      const text = printed(tensor, column, row, channel);
      return text.length > 6 && tensor.dtype !== "bool" ? brief(Number(text), 4) : text;
    });
  };
}

function useHistogram(shown: Shown, isWanted: boolean) {
  const { place, details } = shown;
  const isThere = details.dump.proof !== null || shown.bitmap !== null;
  const url = isWanted && isThere ? apiUrl("histogram", { ...params(place), bins: 256 }) : null;
  const { value, error, isStale } = useAnswer<Histogram>(url);
  return { value: isStale ? undefined : value, error };
}

/** Chooses the range anew for each picture, if it is not held. */
function useAutoRange(histogram: Histogram | undefined): void {
  const { show, dev } = view.value;
  const auto = autoRangeOf(show);
  useEffect(() => {
    const range = auto && histogram && autoRange(histogram, auto);
    if (range) replace({ dev: { ...(dev ?? PLAIN), low: range[0], high: range[1] } });
  }, [auto, histogram]);
}
