// The steps of all that is shown, on one track, and the buttons that move through them.

import { useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Axis, density } from "../picture/ticks";
import { useDigits, useKeys } from "../state/keys";
import type { Player } from "../state/player";
import { px } from "../state/px";
import { settle } from "../state/route";
import { approximate, formatStep } from "../state/steps";
import { color } from "../state/theme";
import { Pause, Play } from "./icons";
import { KeyButton } from "./parts";
import { StepButtons } from "./StepButtons";

export function Slider({ player }: { player: Player }) {
  useKeys({
    previous: () => player.move(-1),
    next: () => player.move(1),
    previous10: () => player.move(-10),
    next10: () => player.move(10),
    first: () => player.first(),
    last: () => player.follow(),
    play: () => player.toggle(),
    slower: () => player.changeSpeed(-1),
    faster: () => player.changeSpeed(1),
  });
  useDigits({ isOpen: player.typed.value !== "", take: (key) => player.type(key) });
  return (
    <section class="dock" aria-label="Steps">
      <div class="dock-buttons">
        <StepButtons>
          <KeyButton name="play" kind="plain" icon aria-label={player.isPlaying.value ? "Pause" : "Play"}>
            {player.isPlaying.value ? <Pause /> : <Play />}
          </KeyButton>
        </StepButtons>
      </div>
      <Where player={player} />
      <Track player={player} />
      <div class="dock-end">
        <Newest player={player} />
        <div class="speed" title="Steps a second while playing">
          <KeyButton name="slower" kind="plain" icon>
            <span aria-hidden="true">‹</span>
          </KeyButton>
          <span class="num">{player.speed.value}/s</span>
          <KeyButton name="faster" kind="plain" icon>
            <span aria-hidden="true">›</span>
          </KeyButton>
        </div>
      </div>
    </section>
  );
}

/** The step, or the one that is typed. */
function Where({ player }: { player: Player }) {
  const [cursor, typed] = [player.cursor.value, player.typed.value];
  return (
    <div class="where num" title="Type digits and Enter to jump to a step">
      <span class="where-name">step</span>
      {typed !== "" ? (
        <span class="where-typed" role="status">
          {typed}
        </span>
      ) : (
        <span class={String(cursor).length > 9 ? "where-step is-long" : "where-step"}>
          {cursor === null ? "–" : formatStep(cursor)}
        </span>
      )}
    </div>
  );
}

/** Whether the newest step is followed, or what has come since it was left. */
function Newest({ player }: { player: Player }) {
  const unseen = player.unseen.value;
  if (player.isFollowing.value) return <span class="pill is-on">newest</span>;
  return (
    <button
      type="button"
      class="pill"
      title="Go to the newest step and follow it (End)"
      onClick={() => player.follow()}
    >
      {unseen > 0 ? `${unseen.toLocaleString("en")} new ▸` : "newest ▸"}
    </button>
  );
}

function Track({ player }: { player: Player }) {
  const track = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [isDragged, setDragged] = useState(false);

  useEffect(() => {
    const div = track.current;
    if (!div) return;
    const observer = new ResizeObserver(() => setWidth(div.clientWidth));
    observer.observe(div);
    return () => observer.disconnect();
  }, []);

  useTicks(canvas, player, width);

  const steps = player.steps.value;
  const axis = useMemo(() => Axis.of(steps), [steps]);
  const [first, last, cursor] = [axis?.first ?? null, axis?.last ?? null, player.cursor.value];
  const known = axis !== null && first !== null && last !== null && cursor !== null;
  const here = known ? steps.counts(cursor, cursor) : { images: 0, held: 0, rejected: 0 };
  const seek = (event: PointerEvent) => {
    if (!axis || !track.current) return;
    const box = track.current.getBoundingClientRect();
    player.seek(axis.step((event.clientX - box.left) / box.width));
  };
  return (
    <div
      ref={track}
      class="track"
      role="slider"
      aria-label="Step"
      aria-valuemin={first === null ? 0 : approximate(first)}
      aria-valuemax={last === null ? 0 : approximate(last)}
      aria-valuenow={cursor === null ? 0 : approximate(cursor)}
      aria-valuetext={known ? valueText(formatStep(cursor), here) : "no steps"}
      tabIndex={0}
      data-dragged={isDragged ? "" : undefined}
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        if (player.isPlaying.peek()) player.toggle();
        setDragged(true);
        seek(event);
      }}
      onPointerMove={(event) => {
        if (isDragged) seek(event);
      }}
      onPointerUp={() => {
        setDragged(false);
        settle();
      }}
      onPointerCancel={() => setDragged(false)}
    >
      <canvas ref={canvas} aria-hidden="true" style={{ width: px(width) }} />
      {known && <div class="thumb" style={{ transform: `translateX(${axis.place(cursor) * width}px)` }} />}
      {known && (
        <div class="track-ends num" aria-hidden="true">
          <span>{formatStep(first)}</span>
          <span>{formatStep(last)}</span>
        </div>
      )}
    </div>
  );
}

function valueText(
  step: string,
  { images, held, rejected }: { images: number; held: number; rejected: number },
): string {
  const parts = [`step ${step}`, `${images} ${images === 1 ? "image" : "images"}`];
  if (held > 0) parts.push(`${held} held`);
  if (rejected > 0) parts.push(`${rejected} rejected`);
  return parts.join(", ");
}

const TICKS_HEIGHT = 30;

/** Draws where there are images (grey bars), held items (amber, above them) and rejected ones (red, below). */
function useTicks(canvas: { current: HTMLCanvasElement | null }, player: Player, width: number): void {
  const widthNow = useRef(width);
  widthNow.current = width;
  const paint = () => {
    // Read first: an effect follows only the signals that it has read.
    const steps = player.steps.value;
    const [grey, amber, red] = [color("--tick"), color("--held-fill"), color("--rejected-fill")];
    const context = canvas.current?.getContext("2d");
    const axis = Axis.of(steps);
    if (!canvas.current || !context || widthNow.current === 0 || !axis) return;
    const ratio = devicePixelRatio;
    const pixels = Math.round(widthNow.current * ratio);
    const height = Math.round(TICKS_HEIGHT * ratio);
    canvas.current.width = pixels;
    canvas.current.height = height;
    // Bars of two pixels with a gap of one look like ticks, and stay apart.
    const bar = Math.max(2, Math.round(2 * ratio));
    const pitch = bar + Math.max(1, Math.round(ratio));
    const ticks = density(steps, axis, Math.max(1, Math.floor(pixels / pitch)));
    const most = ticks.reduce((max, { images }) => Math.max(max, images), 1);
    const mark = Math.round(4 * ratio);
    const room = height - 2 * (mark + ratio);
    context.strokeStyle = grey;
    context.lineWidth = ratio;
    for (const place of axis.breaks) slashes(context, place * pixels, height, ratio);
    ticks.forEach(({ images, held, rejected }, at) => {
      const x = at * pitch;
      if (images > 0) {
        const tall = Math.max(3 * ratio, room * (Math.log1p(images) / Math.log1p(most)));
        context.fillStyle = grey;
        context.fillRect(x, height - mark - ratio - tall, bar, tall);
      }
      if (held > 0) {
        context.fillStyle = amber;
        context.fillRect(x, 0, bar, mark);
      }
      if (rejected > 0) {
        context.fillStyle = red;
        context.fillRect(x, height - mark, bar, mark);
      }
    });
  };
  useSignalEffect(paint);
  useEffect(paint, [width]);
}

/** Two slashes, where a long gap was shortened. */
function slashes(context: CanvasRenderingContext2D, x: number, height: number, ratio: number): void {
  context.beginPath();
  for (const shift of [-2, 2]) {
    context.moveTo(x + (shift - 3) * ratio, height - 4 * ratio);
    context.lineTo(x + (shift + 3) * ratio, height - 16 * ratio);
  }
  context.stroke();
}
