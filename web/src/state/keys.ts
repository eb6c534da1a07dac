// The one list of keyboard shortcuts. Buttons and the help are made from it.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { view } from "./route";
import type { Page } from "./url";

/** One shortcut. */
export interface Shortcut {
  /** The keys as `KeyboardEvent.key`, with `Shift+` before it if Shift matters. Any of them will do. */
  keys: readonly string[];
  /** The key as people read it. */
  label: string;
  /** What it does, in a few words. */
  does: string;
  /** The pages that have it. Empty: all. */
  pages: readonly Page[];
}

const LOOKING: readonly Page[] = ["grid", "item", "compare"];
const PICTURE: readonly Page[] = ["item", "compare"];

/** All shortcuts by name. Digits are no shortcut: see [`useDigits`]. */
export const SHORTCUTS = {
  previous: { keys: ["ArrowLeft"], label: "←", does: "Previous step", pages: LOOKING },
  next: { keys: ["ArrowRight"], label: "→", does: "Next step", pages: LOOKING },
  previous10: { keys: ["Shift+ArrowLeft"], label: "Shift ←", does: "10 steps back", pages: LOOKING },
  next10: { keys: ["Shift+ArrowRight"], label: "Shift →", does: "10 steps on", pages: LOOKING },
  first: { keys: ["Home"], label: "Home", does: "First step", pages: LOOKING },
  last: { keys: ["End"], label: "End", does: "Newest step, and follow it", pages: LOOKING },
  play: { keys: [" "], label: "Space", does: "Play; in compare: flicker", pages: LOOKING },
  slower: { keys: [","], label: ",", does: "Slower", pages: LOOKING },
  faster: { keys: ["."], label: ".", does: "Faster", pages: LOOKING },
  up: {
    keys: ["w", "ArrowUp"],
    label: "w",
    does: "Select the tile above",
    pages: ["runs", "grid"],
  },
  left: { keys: ["a"], label: "a", does: "Select the tile to the left", pages: ["grid"] },
  down: {
    keys: ["s", "ArrowDown"],
    label: "s",
    does: "Select the tile below",
    pages: ["runs", "grid"],
  },
  right: { keys: ["d"], label: "d", does: "Select the tile to the right", pages: ["grid"] },
  open: { keys: ["Enter"], label: "Enter", does: "Open what is selected", pages: ["runs", "grid"] },
  back: { keys: ["Escape"], label: "Esc", does: "Back", pages: ["grid", "item", "compare", "search"] },
  previousIndex: { keys: ["["], label: "[", does: "Previous index", pages: ["item"] },
  nextIndex: { keys: ["]"], label: "]", does: "Next index", pages: ["item"] },
  previousOther: { keys: ["["], label: "[", does: "Compare A with the one before", pages: ["compare"] },
  nextOther: { keys: ["]"], label: "]", does: "Compare A with the next one", pages: ["compare"] },
  nextKey: { keys: ["j"], label: "j", does: "Next key", pages: ["item"] },
  previousKey: { keys: ["k"], label: "k", does: "Previous key", pages: ["item"] },
  larger: { keys: ["+", "="], label: "+", does: "Larger tiles; zoom in", pages: LOOKING },
  smaller: { keys: ["-", "−"], label: "−", does: "Smaller tiles; zoom out", pages: LOOKING },
  exact: { keys: ["e"], label: "e", does: "Only pictures of exactly this step", pages: ["grid"] },
  fit: { keys: ["0"], label: "0", does: "Fit into the window", pages: PICTURE },
  actual: { keys: ["1"], label: "1", does: "One pixel for one pixel", pages: ["item"] },
  smooth: { keys: ["s"], label: "s", does: "Smooth or sharp pixels", pages: PICTURE },
  overlays: { keys: ["o"], label: "o", does: "Boxes and masks", pages: ["item"] },
  loupe: { keys: ["v"], label: "v", does: "Loupe: values under the pointer", pages: PICTURE },
  histogram: { keys: ["h"], label: "h", does: "Histogram", pages: ["item"] },
  logarithmic: { keys: ["g"], label: "g", does: "Logarithmic histogram", pages: ["item"] },
  develop: { keys: ["d"], label: "d", does: "Develop: range, gamma, colormap", pages: ["item"] },
  marks: { keys: ["m"], label: "m", does: "Marks of NaN, Inf and clipped values", pages: ["item"] },
  nextNan: { keys: ["n"], label: "n", does: "Next NaN or Inf", pages: ["item"] },
  backdrop: { keys: ["b"], label: "b", does: "Backdrop of transparent pictures", pages: PICTURE },
  compare: { keys: ["c"], label: "c", does: "Add to compare", pages: ["grid", "item"] },
  fullscreen: { keys: ["f"], label: "f", does: "Full screen", pages: LOOKING },
  copyLink: { keys: ["y"], label: "y", does: "Copy a link to this view", pages: [] },
  search: { keys: ["/"], label: "/", does: "Search", pages: [] },
  theme: { keys: ["t"], label: "t", does: "Theme: as the system, light, dark", pages: [] },
  help: { keys: ["?", "Shift+?"], label: "?", does: "Show all keys", pages: [] },
} as const satisfies Record<string, Shortcut>;

export type ShortcutName = keyof typeof SHORTCUTS;

/** What to do for shortcuts. */
export type Handlers = Partial<Record<ShortcutName, () => void>>;

/** The part of a keyboard event that decides. */
export interface Pressed {
  key: string;
  shiftKey: boolean;
  ctrlKey: boolean;
  altKey: boolean;
  metaKey: boolean;
}

/** The shortcuts of a key on a page, in the order of the list. Pure. */
export function shortcutsOf(pressed: Pressed, page: Page): ShortcutName[] {
  if (pressed.ctrlKey || pressed.altKey || pressed.metaKey) return [];
  // Shift matters only for keys that Shift does not change.
  const isNamed = pressed.key.length > 1;
  const key = pressed.shiftKey && isNamed ? `Shift+${pressed.key}` : pressed.key;
  return names().filter((name) => {
    const { keys, pages }: Shortcut = SHORTCUTS[name];
    return keys.includes(key) && (pages.length === 0 || pages.includes(page));
  });
}

/** The shortcuts that a page has, in order. Pure. */
export function shortcutsOn(page: Page): [ShortcutName, Shortcut][] {
  const all = names().map((name): [ShortcutName, Shortcut] => [name, SHORTCUTS[name]]);
  return all.filter(([, { pages }]) => pages.length === 0 || pages.includes(page));
}

function names(): ShortcutName[] {
  return Object.keys(SHORTCUTS) as ShortcutName[];
}

/** The handlers in force; the latest one of a shortcut wins. */
const bound: { current: Handlers }[] = [];
const digitTakers: { current: DigitTaker }[] = [];
/** Changes whenever handlers come or go, so that buttons show what can be done. */
const version = signal(0);

/** Binds shortcuts while a component is mounted. */
export function useKeys(handlers: Handlers): void {
  const latest = useRef(handlers);
  latest.current = handlers;
  useEffect(() => hold(bound, latest), []);
}

/** Takes the digit keys. Returns whether it did. `Enter` and `Escape` come as well while it says `isOpen`. */
export interface DigitTaker {
  isOpen: boolean;
  take: (key: string) => boolean;
}

/** Binds the digit keys while a component is mounted. Its taker comes before all shortcuts. */
export function useDigits(taker: DigitTaker): void {
  const latest = useRef(taker);
  latest.current = taker;
  useEffect(() => hold(digitTakers, latest), []);
}

function hold<T>(list: T[], one: T): () => void {
  list.push(one);
  version.value++;
  return () => {
    list.splice(list.indexOf(one), 1);
    version.value++;
  };
}

/** Does what a shortcut does. Returns whether anybody has bound it. */
export function act(name: ShortcutName): boolean {
  const handler = handlerOf(name);
  handler?.();
  return handler !== undefined;
}

/** Whether anybody has bound a shortcut. Subscribes the component that asks. */
export function isBound(name: ShortcutName): boolean {
  return version.value >= 0 && handlerOf(name) !== undefined;
}

function handlerOf(name: ShortcutName): (() => void) | undefined {
  for (let i = bound.length - 1; i >= 0; i--) {
    const handler = bound[i]?.current[name];
    if (handler) return handler;
  }
  return undefined;
}

/** Listens to the keyboard. Call it once. */
export function listen(): void {
  window.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    if (isDialogOpen() && event.key !== "?") return;
    if (takesText(event.target)) {
      if (event.key === "Escape") (event.target as HTMLElement).blur();
      return;
    }
    const isDigit = /^[0-9]$/.test(event.key) && !event.ctrlKey && !event.altKey && !event.metaKey;
    const taker = digitTakers.at(-1)?.current;
    if (taker && (isDigit || (taker.isOpen && ["Enter", "Escape", "Backspace"].includes(event.key)))) {
      if (taker.take(event.key)) {
        event.preventDefault();
        return;
      }
    }
    if (isPress(event.target, event.key) || isMove(event.target, event.key)) return;
    for (const name of shortcutsOf(event, view.peek().page)) {
      if (act(name)) {
        event.preventDefault();
        return;
      }
    }
  });
}

/** Whether Space or Enter presses the element that has the focus. */
function isPress(target: EventTarget | null, key: string): boolean {
  if (!(target instanceof HTMLElement) || (key !== "Enter" && key !== " ")) return false;
  const pressed = "button, summary, [role=button], input[type=checkbox]";
  return target.closest(key === "Enter" ? `${pressed}, a[href]` : pressed) !== null;
}

/** Whether a key moves the slider that has the focus. */
function isMove(target: EventTarget | null, key: string): boolean {
  return target instanceof HTMLInputElement && target.type === "range" && /^(Arrow|Home|End|Page)/.test(key);
}

function takesText(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement)
    return !["range", "checkbox", "radio", "button"].includes(target.type);
  return target.isContentEditable || target.closest("textarea, select") !== null;
}

function isDialogOpen(): boolean {
  return document.querySelector("dialog[open]") !== null;
}
