// Draws the tiles: once in an animation frame, picture and label together.

import type { StepNumber } from "../state/api.types";
import type { Track } from "../state/catalogue";
import { compareSteps, formatStep } from "../state/steps";
import { fitted } from "./fit";
import { type Decoded, Frames, FULL, type Spot } from "./frames";
import { plan } from "./plan";

/** A tile on the page. */
export interface Painted {
  /** The cell and the index, for maps. */
  name: string;
  track: string;
  run: string;
  key: string;
  index: number;
  /** The tile's own step; null if it follows the cursor. */
  fixed: StepNumber | null;
  /** The height of the picture's place in CSS pixels. */
  height: number;
  root: HTMLElement;
  canvas: HTMLCanvasElement;
  label: HTMLElement;
  /** Called after another step was drawn, or none. */
  drawn: (step: StepNumber | null) => void;
  /** What was drawn last. */
  last?: { frame: Decoded | undefined; label: string; state: string; width: number; height: number };
}

/** What the tiles show. */
export interface Scene {
  /** The step of the cursor; null if nothing is known. */
  cursor: StepNumber | null;
  isExact: boolean;
  /** The side of a tile in CSS pixels. */
  side: number;
  tracks: ReadonlyMap<string, Track>;
  /** Digests of the pictures by cell, index and step, as far as they are known. */
  digests: ReadonlyMap<string, Digest>;
}

/** A picture that is known by its digest. */
export interface Digest {
  step: StepNumber;
  sha20: string | null;
  /** The address of the whole picture, if it is larger than a thumbnail. */
  full: string | null;
}

/** How often the worker is told of a moving cursor, in milliseconds. */
const AIM_MS = 33;
/** How long a cursor that rests has not moved, in milliseconds. */
const REST_MS = 60;
/** Steps fetched ahead, over all tiles. */
const AHEAD_MAX = 1_500;

export class Painter {
  private readonly tiles = new Set<Painted>();
  private readonly frames = new Frames(() => this.touch());
  private scene: Scene = {
    cursor: null,
    isExact: false,
    side: 160,
    tracks: new Map(),
    digests: new Map(),
  };
  private request = 0;
  private aimTimer: ReturnType<typeof setTimeout> | undefined;
  private aimedAt = 0;
  private restTimer: ReturnType<typeof setTimeout> | undefined;
  private movedAt = 0;

  add(tile: Painted): () => void {
    this.tiles.add(tile);
    this.touch();
    this.aimSoon();
    return () => this.tiles.delete(tile);
  }

  show(scene: Scene): void {
    if (scene.cursor !== this.scene.cursor) this.movedAt = performance.now();
    this.scene = scene;
    this.touch();
    this.aimSoon();
  }

  keyChanged(run: string, key: string): void {
    this.frames.keyChanged(run, key);
    this.aimSoon();
  }

  close(): void {
    cancelAnimationFrame(this.request);
    clearTimeout(this.aimTimer);
    clearTimeout(this.restTimer);
    this.frames.close();
  }

  /** Draws in the next animation frame. */
  touch(): void {
    if (this.request !== 0) return;
    this.request = requestAnimationFrame(() => {
      this.request = 0;
      for (const tile of this.tiles) this.paint(tile);
    });
  }

  /** Whether tiles are larger than thumbnails. */
  private get needsFull(): boolean {
    return this.scene.side * devicePixelRatio > 256;
  }

  private get size(): number {
    return this.scene.side * devicePixelRatio <= 128 ? 128 : 256;
  }

  /** The step that a tile is to show; null if none. */
  private target(tile: Painted): StepNumber | null {
    if (tile.fixed !== null) return tile.fixed;
    const { cursor, tracks, isExact } = this.scene;
    const track = tracks.get(tile.track);
    // The items at the cursor come before all steps do.
    if (cursor === null || !track) return isExact ? null : (this.scene.digests.get(tile.name)?.step ?? null);
    const step = track.shown.atMost(cursor);
    return isExact && step !== null && compareSteps(step, cursor) !== 0 ? null : step;
  }

  private paint(tile: Painted): void {
    const target = this.target(tile);
    const { cursor } = this.scene;
    const width = Math.round(this.scene.side * devicePixelRatio);
    const height = Math.round(tile.height * devicePixelRatio);
    let frame: Decoded | undefined;
    if (target !== null) {
      const isNearEnough = tile.fixed === null && !this.scene.isExact;
      const find = isNearEnough ? this.frames.nearest : this.frames.exact;
      frame = find.call(this.frames, tile.name, this.size, target);
    }
    if (frame && this.needsFull) frame = this.frames.exact(tile.name, FULL, frame.step) ?? frame;
    const step = frame?.step ?? target;
    const sign = tile.fixed !== null || cursor === null || step === null ? 0 : compareSteps(step, cursor);
    const label =
      step === null ? this.nothing(tile) : `${["", "← ", "→ "].at(Math.sign(-sign))}${formatStep(step)}`;
    const state = step === null ? "blank" : !frame ? "waiting" : !frame.bitmap ? "none" : "there";
    const { last } = tile;
    const isCurrent = tile.fixed !== null && this.isAtCursor(tile);
    tile.root.toggleAttribute("data-current", isCurrent);
    if (last?.frame === frame && last?.label === label && last.state === state) {
      if (last.width === width && last.height === height) return;
    }
    tile.last = { frame, label, state, width, height };
    draw(tile.canvas, frame, width, height);
    if (last?.label !== label) {
      tile.label.textContent = label;
      tile.label.toggleAttribute("data-other", sign !== 0);
    }
    if (last?.state !== state) tile.root.setAttribute("data-state", state);
    tile.drawn(step);
  }

  /** Whether a tile of a contact sheet is the one that the cursor is at. */
  private isAtCursor(tile: Painted): boolean {
    const { cursor, tracks } = this.scene;
    const at = cursor === null ? null : tracks.get(tile.track)?.shown.atMost(cursor);
    return at != null && tile.fixed !== null && compareSteps(at, tile.fixed) === 0;
  }

  private nothing(tile: Painted): string {
    const { cursor, tracks, isExact } = this.scene;
    const track = tracks.get(tile.track);
    const first = track?.shown.first() ?? null;
    if (!track || cursor === null || first === null) return "";
    if (compareSteps(first, cursor) > 0) return `first at ${formatStep(first)}`;
    return isExact ? `not at ${formatStep(cursor)}` : "";
  }

  private aimSoon(): void {
    this.aimTimer ??= setTimeout(
      () => {
        this.aimTimer = undefined;
        this.aimedAt = performance.now();
        this.aim();
      },
      Math.max(0, this.aimedAt + AIM_MS - performance.now()),
    );
  }

  private aim(): void {
    const isResting = performance.now() - this.movedAt >= REST_MS;
    const spots = new Map<string, Spot>();
    const moving = [...this.tiles].filter((tile) => tile.fixed === null).length;
    const max = Math.max(4, Math.floor(AHEAD_MAX / Math.max(1, moving)));
    for (const tile of this.tiles) {
      const { name, run, key, index, track } = tile;
      const target = this.target(tile);
      if (target === null) continue;
      const known = spots.get(name);
      if (known) {
        known.targets.push(target);
        continue;
      }
      const digest = this.scene.digests.get(name);
      const isKnown = digest !== undefined && compareSteps(digest.step, target) === 0;
      const sha20 = isKnown ? digest.sha20 : null;
      const full = isKnown && isResting && this.needsFull ? digest.full : null;
      const shown = this.scene.tracks.get(track)?.shown;
      const places = tile.fixed === null && shown ? plan(shown.length, shown.placeAtMost(target), max) : [];
      const ahead = places.flatMap((at) => shown?.at(at) ?? []);
      const isNearEnough = tile.fixed === null;
      spots.set(name, { name, run, key, index, targets: [target], sha20, full, isNearEnough, ahead });
    }
    const side = Math.round(this.scene.side * devicePixelRatio);
    this.frames.aim(this.size, [...spots.values()], isResting, side);
    clearTimeout(this.restTimer);
    if (!isResting) this.restTimer = setTimeout(() => this.aimSoon(), REST_MS);
  }
}

function draw(canvas: HTMLCanvasElement, frame: Decoded | undefined, width: number, height: number): void {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  if (!context) return;
  context.clearRect(0, 0, width, height);
  if (!frame?.bitmap) return;
  const { bitmap } = frame;
  const isWhole = bitmap.width >= frame.width && bitmap.height >= frame.height;
  const image = { width: frame.width || bitmap.width, height: frame.height || bitmap.height };
  const to = fitted(image, { width, height }, isWhole);
  context.imageSmoothingEnabled = !to.isSharp;
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, to.x, to.y, to.width, to.height);
}
