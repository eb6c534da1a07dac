// Which steps to fetch ahead, in which order. Pure.

/** The places of each level around the cursor. */
const AROUND = 8;

/**
 * The places of a list of `length` to fetch around `place`, coarse to fine: at most `max`. The first ones cover the
 * whole list with wide gaps, the last ones are neighbours. All are multiples of powers of two, so that the plans of
 * near places have much in common.
 */
export function plan(length: number, place: number, max: number): number[] {
  const places: number[] = [];
  const seen = new Set<number>();
  const add = (at: number) => {
    if (at < 0 || at >= length || seen.has(at) || places.length >= max) return;
    seen.add(at);
    places.push(at);
  };
  if (length === 0) return places;
  add(Math.min(length - 1, Math.max(0, place)));
  // Its neighbours are what one press of a key asks for.
  add(place + 1);
  add(place - 1);
  let stride = 1;
  while (stride * AROUND * 2 < length) stride *= 2;
  for (; stride >= 1; stride /= 2) {
    const middle = Math.round(place / stride);
    for (let away = 0; away <= AROUND; away++) {
      add((middle + away) * stride);
      add((middle - away) * stride);
    }
  }
  return places;
}
