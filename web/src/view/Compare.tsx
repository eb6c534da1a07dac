import { useRef, useState } from "preact/hooks";
import "./Item.css";
import "./Compare.css";
import { kindOf } from "../picture/difference";
import { backdropOf, isOn } from "../picture/panels";
import { fitted, type Point, type Size } from "../picture/zoom";
import { ApiError, apiUrl } from "../state/api";
import type { Comparison } from "../state/api.types";
import { keyId, shownStep, useStepLists } from "../state/keysteps";
import { useAnswer } from "../state/resource";
import { replace, view } from "../state/route";
import { formatPlace, type Way } from "../state/url";
import { CompareBar } from "./CompareBar";
import { ComparePanels } from "./ComparePanels";
import { DifferenceMap, Flicker, SideBySide, Swipe } from "./CompareWays";
import { useCompareKeys } from "./comparekeys";
import { ZoomBar } from "./ItemBar";
import { releaseButton } from "./itemkeys";
import { Empty, ErrorNote, KeyButton, Link, Skeleton } from "./parts";
import { hasAlpha, type Shown, useAllShown } from "./shown";

/** A picture beside up to eight others. */
export function Compare() {
  const { a, b, step, show } = view.value;
  const asked = a ? [a, ...b] : b;
  const lists = useStepLists(asked);
  const isLocked = show.includes("lockstep");
  const places = asked.map((place) => {
    const locked = isLocked ? shownStep(lists.get(keyId(place)), step) : null;
    return locked === null ? place : { ...place, step: locked };
  });
  const loaded = useAllShown(places);
  if (a === null || b.length === 0) {
    return (
      <>
        <h1 class="sr-only">Compare</h1>
        <Empty title={a === null ? "Nothing to compare" : "Nothing to compare with A"}>
          <p>
            Press <kbd>c</kbd> on a picture in the grid or on its own page to make it A, the reference. Press{" "}
            <kbd>c</kbd> on up to eight others to compare them with it.
          </p>
          <Link to={a ? { page: "grid", run: [a.run], a } : {}} class="button is-main">
            {a ? "Choose a picture" : "All runs"}
          </Link>
        </Empty>
      </>
    );
  }
  if (loaded.error) {
    const { error } = loaded;
    return error instanceof ApiError ? <ErrorNote error={error} /> : <Empty title={error.message} />;
  }
  const [first, ...others] = loaded.value ?? [];
  if (!first || others.length === 0) return <Skeleton height="100%" />;
  return <Compared a={first} others={others} lists={lists} />;
}

interface ComparedProps {
  a: Shown;
  others: readonly Shown[];
  lists: ReturnType<typeof useStepLists>;
}

function Compared({ a, others, lists }: ComparedProps) {
  const { index, way, z, show, dev } = view.value;
  const root = useRef<HTMLDivElement>(null);
  const [screen, setScreen] = useState<Size>({ width: 0, height: 0 });
  const [pixel, setPixel] = useState<Point | null>(null);
  const [peak, setPeak] = useState<number | null>(null);
  const at = Math.min(index, others.length - 1);
  const b = others[at] as Shown;
  const pair = { a: formatPlace(a.place), b: formatPlace(b.place) };
  const comparison = useAnswer<Comparison>(apiUrl("compare", { ...pair, peak }));
  const kind = kindOf(show);
  const isSmooth = isOn(show, "smooth");
  const zoom = z ?? fitted(a.size, screen, !isSmooth);
  const flicker = useCompareKeys({ a, b, others, lists, screen, root });
  const figures = comparison.isStale ? undefined : comparison.value;
  const common = {
    a,
    b,
    others,
    chosen: at,
    zoom: z,
    onZoom: (to: typeof z) => replace({ z: to }),
    onScreen: setScreen,
    pixel,
    onPixel: (to: Point | null) => to && setPixel(to),
    isSmooth,
    backdrop: backdropOf(show),
  };
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: it only lets go of a button that the pointer has pressed.
    // biome-ignore lint/a11y/noStaticElementInteractions: as above.
    <div class="item compare" ref={root} onClick={releaseButton}>
      <CompareBar way={way} n={others.length} chosen={at} shown={[a, ...others]} />
      <div class="item-main">
        <WayView way={way} common={common} flicker={flicker} kind={kind} dev={dev} figures={figures} />
        <ZoomBar scale={zoom.scale} isFit={z === null}>
          <KeyButton name="smooth" kind="plain" pressed={isSmooth}>
            Smooth
          </KeyButton>
          {[a, ...others].some(hasAlpha) && (
            <KeyButton name="backdrop" kind="plain">
              {backdropOf(show)}
            </KeyButton>
          )}
        </ZoomBar>
      </div>
      <ComparePanels
        {...{ a, b, pixel, kind, dev, peak, figures }}
        chosen={at}
        error={comparison.error}
        onPixel={setPixel}
        onPeak={setPeak}
      />
    </div>
  );
}

interface WayProps {
  way: Way;
  common: Parameters<typeof SideBySide>[0];
  flicker: ReturnType<typeof useCompareKeys>;
  kind: Parameters<typeof DifferenceMap>[0]["kind"];
  dev: Parameters<typeof DifferenceMap>[0]["dev"];
  figures: Comparison | undefined;
}

function WayView({ way, common, flicker, kind, dev, figures }: WayProps) {
  switch (way) {
    case "swipe":
      return <Swipe {...common} />;
    case "flicker":
      return <Flicker {...common} flicker={flicker} />;
    case "map":
      return <DifferenceMap {...common} kind={kind} dev={dev} figures={figures} />;
    default:
      return <SideBySide {...common} />;
  }
}
