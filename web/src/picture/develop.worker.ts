// Develops values off the page's thread.

import { type Develop, develop, markCounts, markPixels, marksOf } from "./develop";
import type { Tensor } from "./npy";

/** What to make. The tensor of an earlier request is taken again if none is given. */
export interface DevelopRequest {
  readonly id: number;
  readonly tensor: Tensor | null;
  /** Null: no picture, only marks. */
  readonly how: Develop | null;
  /** The range outside of which values are marked. Null: no marks. */
  readonly marked: readonly [number, number] | null;
}

/** The answer. */
export interface Developed {
  readonly id: number;
  readonly picture: ImageBitmap | null;
  readonly marks: {
    readonly picture: ImageBitmap;
    readonly codes: Uint8Array;
    readonly counts: number[];
  } | null;
}

let tensor: Tensor | null = null;

self.addEventListener("message", (event: MessageEvent<DevelopRequest>) => {
  void answer(event.data);
});

async function answer({ id, tensor: given, how, marked }: DevelopRequest): Promise<void> {
  tensor = given ?? tensor;
  const of = tensor;
  if (!of) return;
  const picture = how && (await bitmap(develop(of, how), of));
  const codes = marked && marksOf(of, marked[0], marked[1]);
  const marks = codes && {
    picture: await bitmap(markPixels(codes, of.width), of),
    codes,
    counts: markCounts(codes),
  };
  const answer: Developed = { id, picture, marks };
  const moved: Transferable[] = [picture, marks?.picture].filter((one): one is ImageBitmap => !!one);
  self.postMessage(answer, { transfer: moved });
}

function bitmap(pixels: Uint8ClampedArray<ArrayBuffer>, { width, height }: Tensor): Promise<ImageBitmap> {
  return createImageBitmap(new ImageData(pixels, width, height), { premultiplyAlpha: "none" });
}
