// How a picture fits into a tile. Pure.

/** A size in pixels. */
export interface Size {
  width: number;
  height: number;
}

/** Where a picture is drawn, in device pixels. */
export interface Fit extends Size {
  x: number;
  y: number;
  /** Whether pixels stay sharp squares. */
  isSharp: boolean;
}

/**
 * Fits an image into a place of some device pixels. One that is smaller is enlarged by a whole factor, so that all its
 * pixels are equally large. A thumbnail that is smaller than its image (`isWhole` false) is drawn at the image's size
 * or that of the place, smoothly.
 */
export function fitted(image: Size, place: Size, isWhole: boolean): Fit {
  const scale = Math.min(place.width / Math.max(1, image.width), place.height / Math.max(1, image.height));
  const factor = scale >= 1 ? Math.floor(scale) : scale;
  const width = Math.max(1, Math.round(image.width * factor));
  const height = Math.max(1, Math.round(image.height * factor));
  return {
    x: Math.floor((place.width - width) / 2),
    y: Math.floor((place.height - height) / 2),
    width,
    height,
    isSharp: isWhole && factor >= 1,
  };
}
