import type { Develop } from "../picture/develop";
import { mediaUrl, params } from "../picture/load";
import { fileName } from "../picture/words";
import { apiUrl } from "../state/api";
import { settle } from "../state/route";
import { say } from "../state/say";
import { Copy, Download as DownloadIcon } from "./icons";
import { Choice, Download, Menu } from "./Menu";
import { copy } from "./parts";
import type { Shown } from "./shown";
import { developUrl } from "./values";

interface MenuProps {
  shown: Shown;
  /** What is on the screen: developed, or as stored. */
  bitmap: ImageBitmap | null;
}

/** Everything that leads from a picture back to its data, as text. */
export function CopyMenu({ shown, bitmap }: MenuProps) {
  const { details } = shown;
  const line = (text: string | null, title: string) =>
    text !== null && <Choice title={title} text={text} act={() => copy(text, `${title} copied`)} />;
  return (
    <Menu label="Copy" icon={<Copy />}>
      {bitmap && <Choice title="Picture" text="as it is shown" act={() => copyPicture(bitmap)} />}
      <Choice
        title="Link"
        text="to this view"
        act={() => {
          settle();
          void copy(location.href, "Link copied");
        }}
      />
      {line(details.file, "Path")}
      {line(details.show, "Command line")}
      {line(details.python, "Python")}
      {line(details.wandb, "wandb.log")}
      {line(details.release, "Release")}
    </Menu>
  );
}

async function copyPicture(bitmap: ImageBitmap): Promise<void> {
  try {
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
    const file = canvas.convertToBlob({ type: "image/png" });
    await navigator.clipboard.write([new ClipboardItem({ "image/png": file })]);
    say("Picture copied");
  } catch {
    say("The browser did not allow copying");
  }
}

interface DownloadProps {
  shown: Shown;
  /** Null: as stored. */
  how: Develop | null;
}

/** The files of an item. */
export function DownloadMenu({ shown, how }: DownloadProps) {
  const { place, details } = shown;
  const { item, dump } = details;
  const media = mediaUrl(place, item);
  const ending = `.${item.path?.split(".").at(-1) ?? "png"}`;
  const step = { run: place.run, key: place.key, first_step: place.step, last_step: place.step };
  return (
    <Menu label="Download" icon={<DownloadIcon />}>
      {media && (
        <Download title="Original" text="the stored file" href={media} name={fileName(item, ending)} />
      )}
      {dump.proof !== null && (
        <>
          <Download
            title="Developed"
            text="as PNG, with this range and colormap"
            href={developUrl(shown, how, null, null)}
            name={fileName(item, ".developed.png")}
          />
          <Download
            title="Values"
            text="values.npy, as in the dump"
            href={apiUrl("values.npy", params(place))}
            name={fileName(item, ".npy")}
          />
        </>
      )}
      {media && (
        <Download
          title="All of this step"
          text="originals and items.jsonl, as tar"
          href={apiUrl("export.tar", step)}
          name={fileName({ ...item, index: null }, ".tar")}
        />
      )}
    </Menu>
  );
}
