// The page's side of the worker that fetches and decodes thumbnails.

import type { StepNumber } from "../state/api.types";
import { compareSteps } from "../state/steps";
import { startWorker } from "../state/trusted";
import type { Decoded, FromWorker, Spot, ToWorker } from "./frames.worker";
import workerUrl from "./frames.worker?worker&url";
import { distance } from "./wishes";

export type { Decoded, Spot } from "./frames.worker";

/** As in the worker, which is another script. */
export const FULL = 0;

/** The decoded pictures of the cells on the page. */
export class Frames {
  private readonly worker = startWorker(workerUrl);
  /** By cell, in order of their steps. */
  private readonly cells = new Map<string, Decoded[]>();

  /** `changed` is called when another picture can be drawn. */
  constructor(private readonly changed: () => void) {
    this.worker.addEventListener("message", (event: MessageEvent<FromWorker>) => this.take(event.data));
  }

  close(): void {
    this.worker.terminate();
    for (const frames of this.cells.values()) for (const frame of frames) frame.bitmap?.close();
    this.cells.clear();
  }

  /** Tells what is to be drawn, and what may be soon. */
  aim(size: number, spots: Spot[], isResting: boolean, side: number): void {
    this.worker.postMessage({ what: "aim", size, spots, isResting, side } satisfies ToWorker);
  }

  /** Tells that a key has other items than before. */
  keyChanged(run: string, key: string): void {
    this.worker.postMessage({ what: "changed", run, key } satisfies ToWorker);
  }

  /** The frame of exactly this step. */
  exact(name: string, size: number, step: StepNumber): Decoded | undefined {
    const frames = this.cells.get(name) ?? [];
    const at = place(frames, step);
    for (let i = at - 1; i >= 0; i--) {
      const frame = frames[i];
      if (!frame || compareSteps(frame.step, step) !== 0) return undefined;
      if (frame.size === size) return frame;
    }
    return undefined;
  }

  /** The frame of the step, or else the picture nearest to it. */
  nearest(name: string, size: number, step: StepNumber): Decoded | undefined {
    const exact = this.exact(name, size, step);
    if (exact) return exact;
    const frames = this.cells.get(name) ?? [];
    const at = place(frames, step);
    const picture = (from: number, by: number) => {
      for (let i = from; i >= 0 && i < frames.length; i += by) {
        if (frames[i]?.bitmap) return frames[i];
      }
      return undefined;
    };
    const below = picture(at - 1, -1);
    const above = picture(at, 1);
    if (!below || !above) return below ?? above;
    return distance(below.step, step) <= distance(above.step, step) ? below : above;
  }

  private take(told: FromWorker): void {
    if (told.what === "failed") return;
    if (told.what === "frame") this.add(told.frame);
    else for (const frame of told.frames) this.remove(frame);
    this.changed();
  }

  private add(frame: Decoded): void {
    this.remove(frame);
    const frames = this.cells.get(frame.name) ?? [];
    frames.splice(place(frames, frame.step), 0, frame);
    this.cells.set(frame.name, frames);
  }

  private remove({ name, size, step }: Pick<Decoded, "name" | "size" | "step">): void {
    const frames = this.cells.get(name);
    const at =
      frames?.findIndex((frame) => frame.size === size && compareSteps(frame.step, step) === 0) ?? -1;
    if (at < 0) return;
    frames?.splice(at, 1)[0]?.bitmap?.close();
    if (frames?.length === 0) this.cells.delete(name);
  }
}

/** The number of frames whose step is at most `step`. */
function place(frames: readonly Decoded[], step: StepNumber): number {
  let low = 0;
  let high = frames.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const frame = frames[middle];
    if (frame && compareSteps(frame.step, step) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
