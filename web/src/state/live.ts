// What changed in the store since the page was opened.

import { signal } from "@preact/signals";
import type { Changed } from "./api.types";

/** How the page learns of changes. */
export type Liveness = "connecting" | "live" | "lost";
export const liveness = signal<Liveness>("connecting");

/** Changes whenever all answers may be others: after a restart of the gallery, or after a lost connection. */
export const refreshed = signal(0);

/** Changes whenever a run is new, has ended or is gone, and when the counts of any run change. */
export const runsVersion = signal(0);

type Listener = (changes: readonly Changed[]) => void;
const listeners = new Set<Listener>();

/** Calls a function with the keys that have changed. Returns a function that ends this. */
export function onChanged(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
