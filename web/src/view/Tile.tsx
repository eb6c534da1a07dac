import type { Signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Painter } from "../picture/painter";
import type { Item, StepNumber } from "../state/api.types";
import { cellName } from "../state/catalogue";
import { act } from "../state/keys";
import { px } from "../state/px";
import { push, view } from "../state/route";
import { compareSteps, formatStep } from "../state/steps";
import { formatView, type Place, START, type View } from "../state/url";
import { DevelopedCell, heldView } from "./DevelopedCell";
import { Compare } from "./icons";
import type { TileSpec } from "./layouts";
import { Preview } from "./Preview";

/** What all tiles of a grid share. */
export interface GridState {
  painter: Painter;
  /** The items at the step where the cursor rests, by tile. */
  facts: Signal<ReadonlyMap<string, Item>>;
  selected: Signal<string | null>;
  /** What each tile shows. */
  drawn: Map<string, Place>;
}

export const GridContext = createContext<GridState | null>(null);

interface TileProps {
  spec: TileSpec;
  /** The width of the picture's place, and its height. */
  side: number;
  height: number;
  column: number;
}

/** One picture with its step, caption and badges. */
export function Tile({ spec, side, height, column }: TileProps) {
  const grid = useContext(GridContext);
  const root = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const label = useRef<HTMLSpanElement>(null);
  const link = useRef<HTMLAnchorElement>(null);
  // The step for which the caption is shown follows what was drawn.
  const [step, setStep] = useState<StepNumber | null>(spec.fixed);
  const name = JSON.stringify([spec.run, spec.key, spec.index]);
  const item = grid?.facts.value.get(spec.fixed === null ? name : spec.id);
  const isItem =
    item !== undefined && item.step !== null && step !== null && compareSteps(item.step, step) === 0;
  const isSelected = grid?.selected.value === spec.id;

  useLayoutEffect(() => {
    if (!grid || !root.current || !canvas.current || !label.current) return;
    const remove = grid.painter.add({
      name,
      track: cellName(spec.run, spec.key),
      run: spec.run,
      key: spec.key,
      index: spec.index,
      height,
      fixed: spec.fixed,
      root: root.current,
      canvas: canvas.current,
      label: label.current,
      drawn(drawn) {
        if (drawn === null) grid.drawn.delete(spec.id);
        else grid.drawn.set(spec.id, { run: spec.run, key: spec.key, step: drawn, index: spec.index });
        setStep(drawn);
      },
    });
    return () => {
      remove();
      grid.drawn.delete(spec.id);
    };
  }, [grid, spec.id, spec.index, spec.fixed, height]);

  useEffect(() => {
    if (isSelected && !root.current?.contains(document.activeElement))
      link.current?.focus({ preventScroll: true });
  }, [isSelected]);

  const place: Place | null =
    step === null ? null : { run: spec.run, key: spec.key, step, index: spec.index };
  const what = spec.index > 0 ? `${spec.key}, index ${spec.index}` : spec.key;
  const caption = isItem ? item.caption : null;
  const follow = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    if (place) push(itemView(place));
  };
  const alt = [what, step === null ? "nothing yet" : `step ${formatStep(step)}`, caption]
    .filter(Boolean)
    .join(", ");
  return (
    <div
      ref={root}
      class="tile"
      role="gridcell"
      aria-colindex={column + 1}
      aria-selected={isSelected}
      data-state="waiting"
      style={{ width: px(side), "--height": px(height) }}
      onFocusIn={() => {
        if (grid) grid.selected.value = spec.id;
      }}
    >
      <a
        ref={link}
        class={isItem && item.mode?.endsWith("A") ? "tile-picture checks" : "tile-picture"}
        href={place ? formatView({ ...START, ...itemView(place) }) : "#page"}
        aria-label={alt}
        tabIndex={isSelected ? 0 : -1}
        onClick={follow}
        style={{ width: px(side), height: px(height) }}
      >
        <canvas ref={canvas} style={{ width: px(side), height: px(height) }} aria-hidden="true" />
        {isItem && item.state === "image" && place && (
          <DevelopedCell place={place} size={side * devicePixelRatio <= 128 ? 128 : 256} />
        )}
        {isItem && item.state === "held" && place && (
          <span class="tile-held">
            <Preview place={place} size={side * devicePixelRatio <= 128 ? 128 : 256} alt="" />
          </span>
        )}
        {isItem && item.pruned && <span class="tile-word">pruned</span>}
      </a>
      <button
        type="button"
        class="tile-compare"
        title="Add to compare (c)"
        aria-label={`Add to compare: ${alt}`}
        tabIndex={isSelected ? 0 : -1}
        onClick={() => {
          if (grid) grid.selected.value = spec.id;
          act("compare");
        }}
      >
        <Compare />
      </button>
      <div class="tile-foot num">
        <span ref={label} class="tile-step" />
        {isItem && <Badges item={item} />}
      </div>
      {caption && (
        <div class="tile-caption" title={caption}>
          <bdi>{caption}</bdi>
        </div>
      )}
    </div>
  );
}

/** The view of an item, reached from the grid. */
export function itemView(place: Place): Partial<View> {
  const { a, b } = view.peek();
  const { run, key, step, index } = place;
  return { ...START, page: "item", run: [run], key, step, index, a, b, ...heldView(key) };
}

/** What is odd about an item, in a word each. */
export function Badges({ item }: { item: Item }) {
  return (
    <span class="badges">
      {item.state === "held" && <span class="badge is-held">held</span>}
      {badgesOf(item).map(([word, title]) => (
        <abbr key={word} class="badge" title={title}>
          {word}
        </abbr>
      ))}
    </span>
  );
}

/** Words and what they mean. */
export function badgesOf(item: Item): [string, string][] {
  const { stats } = item;
  const badges: [string, string][] = [];
  if (stats && stats.nan > 0) badges.push(["NaN", `${stats.nan} values are NaN`]);
  if (stats && stats.inf > 0) badges.push(["Inf", `${stats.inf} values are infinite`]);
  if (stats && stats.clipped > 0.01) {
    badges.push(["clip", `${(stats.clipped * 100).toPrecision(2)} % of the values are outside the range`]);
  }
  if (item.warnings && item.warnings.length > 0) badges.push(["!", item.warnings.join("; ")]);
  if (item.format_guessed) badges.push(["axes?", `Which axis is which was guessed: ${item.format ?? ""}`]);
  return badges;
}
