// The view that is shown, and the browser's history.

import { computed, type ReadonlySignal, signal } from "@preact/signals";
import { formatView, parseView, type View } from "./url";

/** How long a slider may move before the address follows, in milliseconds. */
const REPLACE_AFTER_MS = 200;

function here(): View {
  return parseView(location.pathname, location.search);
}

const shown = signal(here());
let pending: number | undefined;

/** The view. Change it with [`push`] and [`replace`]. */
export const view: { readonly value: View; peek(): View } = shown;

/** A part of the view. What reads it does not notice changes of other parts. */
export function part<Name extends keyof View>(name: Name): ReadonlySignal<View[Name]> {
  return computed(() => shown.value[name]);
}

/** Whether the view was reached by the browser's buttons, or from a page that shows a part of it. */
export let isReturn = false;

/** Shows another view as a new page of the history. */
export function push(to: Partial<View>): void {
  settle();
  const from = shown.peek().page;
  const next = { ...shown.peek(), ...to };
  const url = formatView(next);
  isReturn = from === "item" || from === "compare";
  if (url !== location.pathname + location.search) history.pushState(null, "", url);
  shown.value = next;
}

/** Changes the view in its place. The address follows after 200 ms of rest. */
export function replace(to: Partial<View>): void {
  shown.value = { ...shown.peek(), ...to };
  clearTimeout(pending);
  pending = window.setTimeout(settle, REPLACE_AFTER_MS);
}

/** Writes the address of the view, if it isn't there yet. */
export function settle(): void {
  if (pending === undefined) return;
  clearTimeout(pending);
  pending = undefined;
  history.replaceState(history.state, "", formatView(shown.peek()));
}

window.addEventListener("popstate", () => {
  isReturn = true;
  clearTimeout(pending);
  pending = undefined;
  shown.value = here();
});
window.addEventListener("pagehide", settle);
