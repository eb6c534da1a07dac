import { thumbnailUrl } from "../picture/load";
import { proofText } from "../picture/words";
import type { Shown } from "./shown";

/** Says on the stage why there is no picture, and what can be seen instead. */
export function NoPictureNote({ shown }: { shown: Shown }) {
  const { details, why, failure, place } = shown;
  const { item, dump } = details;
  if (why === null && failure === null) return null;
  const words = {
    rejected: ["Rejected", item.reason ?? ""],
    held: ["Held, and its dump can’t be shown", proofText(dump)],
    pruned: ["Pruned", "Retention removed the media file, and its dump can’t be shown."],
    tiff: ["A TIFF file", "Browsers don’t show TIFF files. Download the original."],
    large: ["Too large to be shown as a whole", "Download the original, or look at its thumbnail."],
    failed: ["The picture can’t be shown", failure ?? ""],
  }[why ?? "failed"];
  const thumbnail = why === "large" || why === "tiff" ? thumbnailUrl(place, item) : null;
  return (
    <div class="stage-note">
      {thumbnail && <img src={thumbnail} alt="" />}
      <h2>{words[0]}</h2>
      <p>{words[1]}</p>
    </div>
  );
}
