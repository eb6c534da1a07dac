// The boxes and masks of the shown picture.

import { loadBoxes, loadMask } from "../picture/load";
import { type Box, boxCounts, classColor, layerId, type Mask, maskCounts } from "../picture/overlay";
import type { Layer } from "../state/api.types";
import { useLoaded } from "../state/loaded";
import { formatPlace } from "../state/url";
import type { Shown } from "./shown";

/** A layer with its content, once that is there. */
export interface LoadedLayer {
  readonly layer: Layer;
  readonly boxes: readonly Box[] | null;
  readonly mask: Mask | null;
  /** Boxes or pixels of each class, by its id. */
  readonly counts: ReadonlyMap<string, number>;
  readonly error: string | null;
}

export function useLayers(shown: Shown | undefined): readonly LoadedLayer[] {
  const id = shown && shown.details.layers.length > 0 ? formatPlace(shown.place) : null;
  const loaded = useLoaded(id, (signal) => loadAll(shown as Shown, signal));
  return loaded.of === id ? (loaded.value ?? []) : [];
}

function loadAll(shown: Shown, signal: AbortSignal): Promise<LoadedLayer[]> {
  return Promise.all(shown.details.layers.map((layer) => load(shown, layer, signal)));
}

async function load(shown: Shown, layer: Layer, signal: AbortSignal): Promise<LoadedLayer> {
  const { place, details, size } = shown;
  try {
    if (layer.kind === "mask") {
      const mask = await loadMask(place, layer, signal);
      return { layer, boxes: null, mask, counts: maskCounts(mask), error: null };
    }
    const boxes = await loadBoxes(place, layer, details.item, size, signal);
    return { layer, boxes, mask: null, counts: boxCounts(boxes), error: null };
  } catch (error) {
    if (signal.aborted) throw error;
    const words = error instanceof Error ? error.message : String(error);
    return { layer, boxes: null, mask: null, counts: new Map(), error: words };
  }
}

/** The color of a class: the same at every step, and in TensorBoard. */
export function colorOf(layer: Layer, id: string): readonly [number, number, number] {
  const known = Object.hasOwn(layer.classes, id) ? layer.classes[id] : undefined;
  const number = Number(id);
  return known?.color ?? (id === "" || !Number.isSafeInteger(number) ? [255, 255, 255] : classColor(number));
}

export function cssColor(color: readonly [number, number, number]): string {
  return `rgb(${color.join(" ")})`;
}

export function className(layer: Layer, id: string): string {
  const known = Object.hasOwn(layer.classes, id) ? layer.classes[id] : undefined;
  return known?.name ?? (id === "" ? "no class" : id);
}

/** The ids of the classes that occur, by their number. */
export function classIds({ counts }: LoadedLayer): string[] {
  return [...counts.keys()].sort((a, b) => Number(a) - Number(b));
}

/** A name for lists of components. */
export function layerKey({ layer }: LoadedLayer): string {
  return layerId(layer);
}
