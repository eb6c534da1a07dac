// The cursor: which step all cells show, and how it moves.

import { computed, effect, type ReadonlySignal, signal } from "@preact/signals";
import type { StepNumber } from "./api.types";
import { part, replace, settle, view } from "./route";
import { approximate, compareSteps, StepUnion } from "./steps";

/** Steps a second. */
const SPEEDS = [1, 2, 4, 8, 15, 30] as const;

/** Moves through the steps of some keys. */
export class Player {
  /** The steps to move through. */
  readonly steps = signal(new StepUnion([]));
  readonly isPlaying = signal(false);
  readonly speed = signal<number>(8);
  /** The digits typed so far, of a step to jump to. */
  readonly typed = signal("");
  /** The step of the cursor. */
  readonly cursor: ReadonlySignal<StepNumber | null>;
  readonly isFollowing: ReadonlySignal<boolean>;
  /** The images that came since the cursor left the newest step. */
  readonly unseen: ReadonlySignal<number>;
  private readonly seen = signal<number | null>(null);
  private readonly end: () => void;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(total: ReadonlySignal<number>) {
    const step = part("step");
    this.cursor = computed(() => (step.value === "last" ? this.steps.value.last() : step.value));
    this.isFollowing = computed(() => step.value === "last");
    this.unseen = computed(() => {
      return this.isFollowing.value || this.seen.value === null
        ? 0
        : Math.max(0, total.value - this.seen.value);
    });
    this.end = effect(() => {
      // Until the cursor leaves the newest step, all is seen.
      if (this.isFollowing.value) this.seen.value = null;
      else if (this.seen.peek() === null && total.value > 0) this.seen.value = total.peek();
    });
  }

  close(): void {
    this.pause();
    this.end();
  }

  /** Goes to the step that exists nearest to one. */
  seek(step: StepNumber): void {
    const to = this.steps.peek().nearest(step);
    if (to !== null) replace({ step: to });
  }

  /** Moves by some steps. */
  move(by: number): void {
    this.pause();
    const from = this.cursor.peek();
    const to = from === null ? null : this.steps.peek().move(from, by);
    if (to !== null && from !== null && compareSteps(from, to) !== 0) replace({ step: to });
  }

  first(): void {
    this.pause();
    const to = this.steps.peek().first();
    if (to !== null) replace({ step: to });
  }

  /** Follows the newest step. */
  follow(): void {
    this.pause();
    replace({ step: "last" });
  }

  toggle(): void {
    if (this.isPlaying.peek()) this.pause();
    else this.play();
  }

  changeSpeed(by: 1 | -1): void {
    const at = (SPEEDS as readonly number[]).indexOf(this.speed.peek());
    this.speed.value = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, at + by))] ?? 8;
    if (this.isPlaying.peek()) this.run();
  }

  /** Takes a key of a number that is typed: digits, Backspace, Enter, Escape. */
  type(key: string): boolean {
    if (key === "Enter") {
      const typed = this.typed.peek();
      this.typed.value = "";
      if (typed !== "") this.seek(approximateStep(typed));
    } else if (key === "Escape") this.typed.value = "";
    else if (key === "Backspace") this.typed.value = this.typed.peek().slice(0, -1);
    else if (this.typed.peek().length < 20) this.typed.value += key;
    return true;
  }

  private play(): void {
    const steps = this.steps.peek();
    const { step } = view.peek();
    const at = this.cursor.peek();
    const last = steps.last();
    // At the end, it begins again.
    const isAtEnd = step === "last" || (at !== null && last !== null && compareSteps(at, last) >= 0);
    const first = steps.first();
    if (isAtEnd && first !== null) replace({ step: first });
    this.isPlaying.value = true;
    this.run();
  }

  private run(): void {
    clearInterval(this.timer);
    this.timer = setInterval(() => {
      const from = this.cursor.peek();
      const to = from === null ? null : this.steps.peek().next(from);
      if (to === null) this.pause();
      else replace({ step: to });
    }, 1000 / this.speed.peek());
  }

  private pause(): void {
    clearInterval(this.timer);
    if (!this.isPlaying.peek()) return;
    this.isPlaying.value = false;
    settle();
  }
}

/** A typed number as a step; a number beyond all steps as the greatest. */
function approximateStep(typed: string): StepNumber {
  const step = BigInt(typed);
  const max = 18446744073709551615n;
  const text = (step > max ? max : step).toString();
  return approximate(text) <= Number.MAX_SAFE_INTEGER ? Number(text) : text;
}
