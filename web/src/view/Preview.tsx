import { useState } from "preact/hooks";
import { apiUrl } from "../state/api";
import { info } from "../state/store";
import type { Place } from "../state/url";

interface PreviewProps {
  place: Place;
  /** 128 or 256. */
  size: number;
  alt: string;
}

/** The picture of a held item, developed from its dump: it has no file yet. */
export function Preview({ place, size, alt }: PreviewProps) {
  const [isGone, setGone] = useState(false);
  const [isSmall, setSmall] = useState(false);
  if (isGone) return <span class="chip">no preview</span>;
  if (info.value?.dumps === false) {
    const title = info.value.fleet
      ? "The dump is on the box that holds it"
      : "Values of dumps are not served (gallery.dumps)";
    return (
      <span class="chip" title={title}>
        no preview
      </span>
    );
  }
  return (
    <img
      class={isSmall ? "preview-image is-pixelated" : "preview-image"}
      src={apiUrl("develop.png", { ...place, size })}
      alt={alt}
      loading="lazy"
      decoding="async"
      onLoad={({ currentTarget: { naturalWidth, clientWidth } }) => setSmall(naturalWidth * 2 <= clientWidth)}
      onError={() => setGone(true)}
    />
  );
}
