import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { Player } from "../state/player";
import { replace, view } from "../state/route";
import { type StepList, StepUnion } from "../state/steps";
import type { Zoom } from "../state/url";

/** A digit that zooms begins a step if another one follows within this time. */
const TYPED_MS = 1_000;

/** A player on a page where some digits zoom. They do so at once. If more digits follow, the first one was the start of
 * a step, and the zoom is taken back. */
export class ZoomingPlayer extends Player {
  onFirstDigit: Readonly<Record<string, () => void>> = {};
  private before: Zoom | null | undefined;

  override type(key: string): boolean {
    if (this.typed.peek() === "" && Object.hasOwn(this.onFirstDigit, key)) {
      this.before = view.peek().z;
      this.onFirstDigit[key]?.();
      setTimeout(() => {
        if (this.typed.peek() === key) this.typed.value = "";
      }, TYPED_MS);
    } else if (this.before !== undefined && /^\d$/.test(key)) {
      replace({ z: this.before });
      this.before = undefined;
    }
    return super.type(key);
  }
}

/** Moves through the steps of some keys, for as long as a component is mounted. */
export function usePlayer(lists: readonly StepList[]): ZoomingPlayer {
  const total = useMemo(() => signal(0), []);
  const player = useMemo(() => new ZoomingPlayer(total), []);
  useEffect(() => () => player.close(), []);
  useEffect(() => {
    const steps = new StepUnion(lists);
    const [first, last] = [steps.first(), steps.last()];
    player.steps.value = steps;
    total.value = first === null || last === null ? 0 : steps.counts(first, last).images;
  }, lists);
  return player;
}
