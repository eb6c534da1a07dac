// Gets what the pages of an item show: the picture, its values, masks and boxes.

import { apiUrl, askBytes, type Param, request, sha20 } from "../state/api";
import type { Item, ItemDetails, Layer } from "../state/api.types";
import { formatPlace, type Place } from "../state/url";
import { withoutExif } from "./exif";
import { type DType, elementBytes, readNpy, type Tensor } from "./npy";
import { type Box, type Mask, readBoxes } from "./overlay";
import { readMask, readPng } from "./png";
import type { Rectangle, Size } from "./zoom";

/** Values of at most so many bytes come whole, and are developed on the page. */
export const VALUES_BYTES_MAX = 2 << 20;

/** Why there is no picture. */
export type NoPicture = "rejected" | "held" | "pruned" | "tiff" | "large";

export function params(place: Place): Record<string, Param> {
  return { run: place.run, key: place.key, step: place.step, index: place.index };
}

/** The address of an item's media file; null if it has none. */
export function mediaUrl(place: Place, item: Item): string | null {
  if (item.sha256 === null || item.path === null || item.pruned) return null;
  const name = `${sha20(item.sha256)}.${item.path.split(".").at(-1) ?? "png"}`;
  return apiUrl("", params(place)).replace("/api/v1/", `/m/${name}`);
}

export function thumbnailUrl(place: Place, item: Item): string | null {
  if (item.sha256 === null || item.pruned) return null;
  return apiUrl("", params(place)).replace("/api/v1/", `/t/256/${sha20(item.sha256)}`);
}

/** The size of the picture in which places are counted: that of the dump's image, if its values are there. */
export function sizeOf({ item, dump }: ItemDetails): Size {
  if (dump.proof !== null && dump.size !== null) {
    return { width: dump.size[1], height: dump.size[0] };
  }
  return { width: item.width ?? 1, height: item.height ?? 1 };
}

/** Why an item's stored picture can't be shown. */
export function whyNoPicture({ item, dump }: ItemDetails, pixelsMax: number): NoPicture | null {
  if (item.state === "rejected") return "rejected";
  if (item.state === "held") return dump.proof === null ? "held" : null;
  if (item.pruned && dump.proof === null) return "pruned";
  if (item.file_type === "tiff") return "tiff";
  const { width, height } = item;
  return width !== null && height !== null && width * height > pixelsMax && dump.proof === null
    ? "large"
    : null;
}

/** Decodes the stored picture. Of a held or pruned item and a very large one, the daemon makes one from the dump. */
export async function loadPicture(
  place: Place,
  details: ItemDetails,
  pixelsMax: number,
  signal?: AbortSignal,
): Promise<ImageBitmap> {
  const { item } = details;
  const isLarge = (item.width ?? 0) * (item.height ?? 0) > pixelsMax;
  const media = isLarge ? null : mediaUrl(place, item);
  const url = media ?? apiUrl("develop.png", { ...params(place), size: isLarge ? 2048 : null });
  return loadBitmap(url, signal);
}

/** Decodes a picture without converting its colors or turning it: values, boxes and masks count the stored pixels. */
export async function loadBitmap(url: string, signal?: AbortSignal): Promise<ImageBitmap> {
  const file = await askBytes(url, signal);
  return createImageBitmap(new Blob(withoutExif(file)), {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
}

/** The bytes of a decoded picture, as values. */
export function bytesOf(bitmap: ImageBitmap, mode: string | null): Tensor {
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context?.drawImage(bitmap, 0, 0);
  const rgba = context?.getImageData(0, 0, width, height).data ?? new Uint8ClampedArray(width * height * 4);
  const taken = { L: [0], "1": [0], "I;16": [0], LA: [0, 3], RGBA: [0, 1, 2, 3] }[mode ?? ""] ?? [0, 1, 2];
  const values = new Uint8Array(width * height * taken.length);
  for (let pixel = 0, at = 0; pixel < rgba.length; pixel += 4) {
    for (const channel of taken) {
      values[at++] = rgba[pixel + channel] ?? 0;
    }
  }
  return { dtype: "uint8", width, height, channels: taken.length, values, exact: null };
}

/** Whether a browser's decoder changes the samples of a picture: it keeps 8 bits, and rounds colors beside alpha. */
export function isExactInPng({ mode, file_type: type }: Item): boolean {
  return type === "png" && (mode === "RGBA" || mode === "LA" || mode === "I;16");
}

/** The samples of a stored PNG file. */
export async function loadSamples(place: Place, item: Item, signal?: AbortSignal): Promise<Tensor | null> {
  const url = mediaUrl(place, item);
  const samples = url && (await readPng(await (await request(url, signal)).arrayBuffer()));
  if (!samples) return null;
  const dtype = samples.values instanceof Uint16Array ? "uint16" : "uint8";
  return { dtype, ...samples, exact: null };
}

/** The bytes that `values.npy` has of the whole image; infinite if it is not known. */
export function valuesBytes({ dump }: ItemDetails): number {
  const { dtype, size } = dump;
  if (dtype === null || size === null) return Number.POSITIVE_INFINITY;
  const known = /^(bool|u?int(8|16|32|64)|float(16|32|64))$/.test(dtype);
  // 8-bit floats and bfloat16 come as float32; of complex numbers comes the real part.
  const bytes = known ? elementBytes(dtype as DType) : dtype === "complex128" ? 8 : 4;
  return size[0] * size[1] * size[2] * bytes;
}

/** The values of an image or of a part of it. */
export async function loadValues(
  place: Place,
  part: Rectangle | null,
  signal?: AbortSignal,
): Promise<Tensor> {
  const region = part ? { x: part.x, y: part.y, w: part.width, h: part.height } : {};
  const answer = await request(apiUrl("values.npy", { ...params(place), ...region }), signal);
  return readNpy(await answer.arrayBuffer());
}

const KEPT_MAX = 6;
const kept = new Map<string, Promise<Tensor>>();

/** All values of an image. The last ones are kept, so that those of the next step can be got ahead. */
export function loadAllValues(place: Place, { item }: ItemDetails): Promise<Tensor> {
  const id = `${formatPlace(place)} ${item.sha256} ${item.state}`;
  const known = kept.get(id);
  if (known) return known;
  const made = loadValues(place, null);
  kept.set(id, made);
  made.catch(() => kept.delete(id));
  const oldest = kept.keys().next();
  if (kept.size > KEPT_MAX && !oldest.done) kept.delete(oldest.value);
  return made;
}

export async function loadBoxes(
  place: Place,
  layer: Layer,
  item: Item,
  shown: Size,
  signal?: AbortSignal,
): Promise<Box[]> {
  const answer = await request(apiUrl("boxes", { ...params(place), layer: layer.name }), signal);
  const [width, height] = item.downscaled_from ?? [item.width ?? shown.width, item.height ?? shown.height];
  return readBoxes(await answer.json(), { width, height }, shown);
}

export async function loadMask(place: Place, layer: Layer, signal?: AbortSignal): Promise<Mask> {
  const answer = await request(apiUrl("mask.png", { ...params(place), layer: layer.name }), signal);
  const file = await answer.arrayBuffer();
  const ids = await readMask(file);
  if (ids) return ids;
  const bitmap = await createImageBitmap(new Blob([file]), { colorSpaceConversion: "none" });
  const { width, height, values } = bytesOf(bitmap, "L");
  return { width, height, ids: values as Uint8Array };
}
