// The keys of the compare page.

import { useEffect, useState } from "preact/hooks";
import { otherRate } from "../picture/difference";
import { isOn, nextBackdrop, type Switch, toggled } from "../picture/panels";
import { fitted, type Size, zoomedAbout } from "../picture/zoom";
import type { StepNumber } from "../state/api.types";
import { useDigits, useKeys } from "../state/keys";
import { keyId } from "../state/keysteps";
import { push, replace, view } from "../state/route";
import { type StepList, StepUnion } from "../state/steps";
import { toggleFullscreen } from "./itemkeys";
import { hasAlpha, type Shown } from "./shown";

interface CompareKeys {
  a: Shown;
  b: Shown;
  others: readonly Shown[];
  lists: ReadonlyMap<string, StepList>;
  screen: Size;
  root: { current: HTMLElement | null };
}

/** How flicker goes. */
export interface FlickerState {
  /** Whether the other picture is held by the Space key or its button. */
  readonly isHeld: boolean;
  readonly hold: (isHeld: boolean) => void;
  readonly isAuto: boolean;
  readonly setAuto: (isAuto: boolean) => void;
  /** Cycles a second. */
  readonly rate: number;
  readonly setRate: (rate: number) => void;
}

const ZOOM_STEP = 1.5;

export function useCompareKeys({ a, b, others, lists, screen, root }: CompareKeys): FlickerState {
  const [isHeld, hold] = useState(false);
  const [isAuto, setAuto] = useState(false);
  const [rate, setRate] = useState(1);
  useEffect(() => {
    const release = (event: KeyboardEvent) => event.key === " " && hold(false);
    const lost = () => hold(false);
    window.addEventListener("keyup", release);
    window.addEventListener("blur", lost);
    return () => {
      window.removeEventListener("keyup", release);
      window.removeEventListener("blur", lost);
    };
  }, []);
  const flip = (name: Switch) => () => replace({ show: toggled(view.peek().show, name) });
  const zoom = (factor: number) => () => {
    const { z, show } = view.peek();
    const isPixelated = !isOn(show, "smooth");
    const from = z ?? fitted(a.size, screen, isPixelated);
    replace({
      z: zoomedAbout(from, factor, { x: screen.width / 2, y: screen.height / 2 }, screen, isPixelated),
    });
  };
  const { move, go } = stepper({ a, b, others, lists });
  useKeys({
    previous: () => move(-1),
    next: () => move(1),
    previous10: () => move(-10),
    next10: () => move(10),
    first: () => go("first"),
    last: () => go("last"),
    play: () => {
      if (view.peek().way !== "flicker") replace({ way: "flicker" });
      hold(true);
    },
    slower: () => setRate((last) => otherRate(last, -1)),
    faster: () => setRate((last) => otherRate(last, 1)),
    ...(others.length > 1 && {
      previousOther: () => choose(view.peek().index - 1, others.length),
      nextOther: () => choose(view.peek().index + 1, others.length),
    }),
    larger: zoom(ZOOM_STEP),
    smaller: zoom(1 / ZOOM_STEP),
    fit: () => replace({ z: null }),
    smooth: flip("smooth"),
    loupe: flip("loupe"),
    ...([a, ...others].some(hasAlpha) && {
      backdrop: () => replace({ show: nextBackdrop(view.peek().show) }),
    }),
    fullscreen: () => toggleFullscreen(root.current),
    back: () => {
      const { run, key, step, index } = a.place;
      push({ page: "item", run: [run], key, step, index, dev: null });
    },
  });
  useDigits({
    isOpen: false,
    take: (digit) => {
      const at = Number(digit) - 1;
      if (at < 0 || at >= others.length) return false;
      choose(at, others.length);
      return true;
    },
  });
  return { isHeld, hold, isAuto, setAuto, rate, setRate };
}

/** Chooses which picture is compared with *A*. */
export function choose(at: number, n: number): void {
  replace({ index: (at + n) % n });
}

/** Moves all pictures in lockstep, or the chosen one alone. */
function stepper({ a, b, others, lists }: Omit<CompareKeys, "screen" | "root">) {
  const isLocked = () => view.peek().show.includes("lockstep");
  const set = (step: StepNumber | "last") => {
    if (isLocked()) return replace({ step });
    const { index, b: all } = view.peek();
    const at = Math.min(index, all.length - 1);
    if (step !== "last") replace({ b: all.map((place, i) => (i === at ? { ...place, step } : place)) });
  };
  const union = () => {
    const moving = isLocked() ? [a, ...others] : [b];
    return new StepUnion(moving.flatMap(({ place }) => lists.get(keyId(place)) ?? []));
  };
  const now = () => {
    const { step } = view.peek();
    if (!isLocked()) return b.place.step;
    return step === "last" ? union().last() : step;
  };
  const move = (n: number) => {
    const from = now();
    const to = from === null ? null : union().move(from, n);
    if (to !== null) set(to);
  };
  const go = (end: "first" | "last") => {
    const to = end === "first" ? union().first() : isLocked() ? "last" : union().last();
    if (to !== null) set(to);
  };
  return { move, go };
}
