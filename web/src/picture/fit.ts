// How a picture fits into a square tile. Pure.

/** Where a picture is drawn, in device pixels. */
export interface Fit {
  x: number;
  y: number;
  width: number;
  height: number;
  /** Whether pixels stay sharp squares. */
  isSharp: boolean;
}

/**
 * Fits an image of `width` by `height` pixels into a square of `side` device pixels. One that is smaller is enlarged
 * by a whole factor, so that all its pixels are equally large. A thumbnail that is smaller than its image (`isWhole`
 * false) is drawn at the image's size or that of the tile, smoothly.
 */
export function fitted(width: number, height: number, side: number, isWhole: boolean): Fit {
  const longest = Math.max(width, height, 1);
  const scale = side / longest;
  const factor = scale >= 1 ? Math.floor(scale) : scale;
  const w = Math.max(1, Math.round(width * factor));
  const h = Math.max(1, Math.round(height * factor));
  return {
    x: Math.floor((side - w) / 2),
    y: Math.floor((side - h) / 2),
    width: w,
    height: h,
    isSharp: isWhole && factor >= 1,
  };
}
