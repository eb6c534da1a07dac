// The cells of a key whose range is held, in the grid.

import { useState } from "preact/hooks";
import { brief } from "../picture/loupe";
import { apiUrl } from "../state/api";
import { part, replace } from "../state/route";
import type { Develop, Place, View } from "../state/url";
import { Close } from "./icons";

const held = { dev: part("dev"), devkey: part("devkey") };

/** How the cells of a key are developed; null if they are shown as they are stored. */
function heldFor(key: string): Develop | null {
  return held.devkey.value === key ? held.dev.value : null;
}

/** What a link to an item of a key carries of it. */
export function heldView(key: string): Partial<View> {
  return held.devkey.peek() === key ? { dev: held.dev.peek(), devkey: key } : {};
}

/** A cell's picture with the range that is held for its key. While the step moves, the stored one is seen. */
export function DevelopedCell({ place, size }: { place: Place; size: number }) {
  const dev = heldFor(place.key);
  const [lost, setLost] = useState("");
  if (!dev) return null;
  const url = apiUrl("develop.png", {
    ...place,
    low: dev.low,
    high: dev.high,
    gamma: dev.gamma === 1 ? null : dev.gamma,
    colormap: dev.map || null,
    channel: dev.channel < 0 ? null : dev.channel,
    nan: dev.nan === "" ? null : `#${dev.nan}`,
    size,
  });
  // Without its dump, the stored picture stays.
  if (lost === url) return null;
  return (
    <img class="preview-image is-developed" src={url} alt="" decoding="async" onError={() => setLost(url)} />
  );
}

/** Says that the cells of a key are developed. Pressing it shows them as they are stored. */
export function DevelopedChip({ of }: { of: string }) {
  const dev = heldFor(of);
  if (!dev) return null;
  const range =
    dev.low === null || dev.high === null ? "developed" : `${brief(dev.low)} to ${brief(dev.high)}`;
  return (
    <button
      type="button"
      class="chip is-developed num"
      title="Show these pictures as they are stored"
      onClick={() => replace({ dev: null, devkey: "" })}
    >
      {range}
      <Close />
    </button>
  );
}
