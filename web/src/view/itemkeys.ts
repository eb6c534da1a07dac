// The keys of the item page.

import { formatOverlays, parseOverlays } from "../picture/overlay";
import { marksToggled, nextBackdrop, type Switch, toggled } from "../picture/panels";
import { fitted, oneToOne, type Size, zoomedAbout } from "../picture/zoom";
import type { KeyRow } from "../state/api.types";
import { useKeys } from "../state/keys";
import { push, replace, view } from "../state/route";
import { say } from "../state/say";
import { START, type View } from "../state/url";
import { addToCompare } from "./gridKeys";
import type { Shown } from "./shown";
import type { ZoomingPlayer } from "./usePlayer";

interface ItemKeys {
  shown: Shown;
  keys: readonly KeyRow[];
  screen: Size;
  size: Size;
  root: { current: HTMLElement | null };
  isOdd: boolean;
  hasAlpha: boolean;
  hasLayers: boolean;
  player: ZoomingPlayer;
  nextNan: () => void;
}

const ZOOM_STEP = 1.5;

export function useItemKeys(props: ItemKeys): void {
  const { shown, keys, screen, size, root, isOdd, hasAlpha, hasLayers, player, nextNan } = props;
  const { place, details } = shown;
  const flip = (name: Switch) => () => replace({ show: toggled(view.peek().show, name) });
  const otherKey = (n: number) => () => {
    const at = keys.findIndex(({ key }) => key === place.key);
    const next = keys[(at + n + keys.length) % keys.length];
    if (next && keys.length > 1) push({ key: next.key, index: 0 });
  };
  const otherIndex = (n: number) => () => {
    const index = place.index + n;
    if (index >= 0 && index < details.indices) push({ index });
  };
  const zoom = (factor: number) => () => {
    const { z, show } = view.peek();
    const isPixelated = !show.includes("smooth");
    const from = z ?? fitted(size, screen, isPixelated);
    replace({
      z: zoomedAbout(from, factor, { x: screen.width / 2, y: screen.height / 2 }, screen, isPixelated),
    });
  };
  const actual = () => replace({ z: oneToOne(view.peek().z ?? fitted(size, screen), size, screen) });
  const flipOverlays = () => {
    const overlays = parseOverlays(view.peek().ov);
    replace({ ov: formatOverlays({ ...overlays, isOff: !overlays.isOff }) ?? "" });
  };
  const one = keys.length > 1;
  useKeys({
    ...(one && { previousKey: otherKey(-1), nextKey: otherKey(1) }),
    ...(details.indices > 1 && { previousIndex: otherIndex(-1), nextIndex: otherIndex(1) }),
    larger: zoom(ZOOM_STEP),
    smaller: zoom(1 / ZOOM_STEP),
    fit: () => replace({ z: null }),
    actual,
    smooth: flip("smooth"),
    loupe: flip("loupe"),
    histogram: flip("histogram"),
    logarithmic: flip("logarithmic"),
    develop: flip("develop"),
    marks: () => replace({ show: marksToggled(view.peek().show, isOdd) }),
    nextNan,
    ...(hasLayers && { overlays: flipOverlays }),
    ...(hasAlpha && { backdrop: () => replace({ show: nextBackdrop(view.peek().show) }) }),
    fullscreen: () => toggleFullscreen(root.current),
    compare: () => addToCompare(place),
    back: () => push(gridOf(view.peek())),
  });
  player.onFirstDigit = { 0: () => replace({ z: null }), 1: actual };
}

/** The grid that shows the item's run at its step. */
export function gridOf({ run, step, key, dev, devkey, a, b }: View): Partial<View> {
  const held = dev !== null && devkey === key ? { dev, devkey } : {};
  return { ...START, page: "grid", run, step, a, b, ...held };
}

/** Lets go of a button that the pointer has pressed, so that Space plays or flickers and does not press it again. */
export function releaseButton(event: MouseEvent): void {
  const isPointer = event.detail > 0;
  if (isPointer && event.target instanceof Element) event.target.closest("button")?.blur();
}

export function toggleFullscreen(element: HTMLElement | null): void {
  const done = document.fullscreenElement ? document.exitFullscreen() : element?.requestFullscreen();
  done?.catch(() => say("The browser did not allow full screen"));
}
