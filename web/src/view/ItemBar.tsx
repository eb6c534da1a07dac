import type { ComponentChildren } from "preact";
import type { KeyRow, StepNumber } from "../state/api.types";
import { view } from "../state/route";
import { formatStep } from "../state/steps";
import { Down, Full, Grid, Left, Right, Up } from "./icons";
import { KeyButton, Link } from "./parts";

interface ItemBarProps {
  run: string;
  itemKey: string;
  keys: readonly KeyRow[];
  /** The step of the picture, and the one that was asked for. */
  step: StepNumber | null;
  asked: StepNumber | "last";
  index: number;
  indices: number;
  children: ComponentChildren;
}

/** Where the picture is in the run, and the way to its neighbours. */
export function ItemBar({ run, itemKey, keys, step, asked, index, indices, children }: ItemBarProps) {
  const isOther = step !== null && asked !== "last" && String(asked) !== String(step);
  return (
    <div class="bar">
      <KeyButton name="back" kind="plain" icon class="bar-back">
        <Grid />
      </KeyButton>
      <nav class="crumbs" aria-label="Place">
        <Link to={{ page: "grid", run: [run], step: asked }} class="cut muted" title={run}>
          <bdi>{run}</bdi>
        </Link>
        <span class="crumb-key">
          <h1 class="cut" title={itemKey}>
            <bdi>{itemKey}</bdi>
          </h1>
          {keys.length > 1 && (
            <span class="pair">
              <KeyButton name="previousKey" kind="plain" icon>
                <Up />
              </KeyButton>
              <KeyButton name="nextKey" kind="plain" icon>
                <Down />
              </KeyButton>
            </span>
          )}
        </span>
      </nav>
      <div class="bar-group">
        <span class={isOther ? "step is-other" : "step"}>
          <span class="muted">step</span> <b class="num">{step === null ? "–" : formatStep(step)}</b>
          {isOther && <span class="num"> for {formatStep(asked)}</span>}
        </span>
      </div>
      {indices > 1 && (
        <div class="bar-group">
          <KeyButton name="previousIndex" kind="plain" icon>
            <Left />
          </KeyButton>
          <span class="step">
            <span class="muted">index</span> <b class="num">{index}</b>{" "}
            <span class="muted num">of 0–{indices - 1}</span>
          </span>
          <KeyButton name="nextIndex" kind="plain" icon>
            <Right />
          </KeyButton>
        </div>
      )}
      <div class="bar-end">
        {children}
        <KeyButton name="compare">Compare</KeyButton>
        <KeyButton name="fullscreen" kind="plain" icon>
          <Full />
        </KeyButton>
      </div>
    </div>
  );
}

/** The zoom, on the picture's edge. */
export function ZoomBar({
  scale,
  isFit,
  children,
}: {
  scale: number;
  isFit: boolean;
  children?: ComponentChildren;
}) {
  const { page } = view.value;
  const percent = scale >= 10 ? `${Math.round(scale)} ×` : `${Math.round(scale * 100)} %`;
  return (
    <div class="zoom-bar">
      <KeyButton name="smaller" kind="plain" icon>
        <span aria-hidden="true">−</span>
      </KeyButton>
      <span class="num zoom-scale">{percent}</span>
      <KeyButton name="larger" kind="plain" icon>
        <span aria-hidden="true">+</span>
      </KeyButton>
      <KeyButton name="fit" kind="plain" pressed={isFit}>
        Fit
      </KeyButton>
      {page === "item" && (
        <KeyButton name="actual" kind="plain" pressed={scale === 1}>
          1:1
        </KeyButton>
      )}
      {children}
    </div>
  );
}
