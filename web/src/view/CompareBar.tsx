import { nameOf, placeText } from "../picture/words";
import { replace, view } from "../state/route";
import { formatStep } from "../state/steps";
import { WAYS, type Way } from "../state/url";
import { choose } from "./comparekeys";
import { Full, Left } from "./icons";
import { Button, KeyButton } from "./parts";
import { StepButtons } from "./StepButtons";
import type { Shown } from "./shown";

const NAMES: Readonly<Record<Way, string>> = {
  side: "Side by side",
  swipe: "Swipe",
  flicker: "Flicker",
  map: "Difference",
};

interface CompareBarProps {
  way: Way;
  n: number;
  chosen: number;
  /** *A* first. */
  shown: readonly Shown[];
}

/** How the pictures are compared, and which one. */
export function CompareBar({ way, n, chosen, shown }: CompareBarProps) {
  const { show, step } = view.value;
  const isLocked = show.includes("lockstep");
  const lock = () => {
    const rest = show.filter((word) => word !== "lockstep");
    const latest = shown[chosen + 1]?.place.step ?? "last";
    replace(isLocked ? { show: rest, ...pinned(shown) } : { show: [...rest, "lockstep"], step: latest });
  };
  return (
    <div class="bar">
      <h1 class="sr-only">Compare</h1>
      <KeyButton name="back" kind="plain" icon class="bar-back">
        <Left />
      </KeyButton>
      <fieldset class="segmented" aria-label="Way to compare">
        {WAYS.map((one) => (
          <Button key={one} aria-pressed={one === way} onClick={() => replace({ way: one })}>
            {NAMES[one]}
          </Button>
        ))}
      </fieldset>
      {n > 1 && (
        <fieldset class="segmented" aria-label="Picture that is compared with A">
          {shown.slice(1).map(({ place }, at) => (
            <Button
              key={nameOf(at + 1)}
              aria-pressed={at === chosen}
              title={`${placeText(place)} (${at + 1})`}
              onClick={() => choose(at, n)}
            >
              {nameOf(at + 1)}
            </Button>
          ))}
        </fieldset>
      )}
      <div class="bar-end">
        <StepButtons>
          <span class="step num">
            {isLocked
              ? `step ${step === "last" ? "last" : formatStep(step)}`
              : `${nameOf(chosen + 1)}: step ${formatStep(shown[chosen + 1]?.place.step ?? 0)}`}
          </span>
        </StepButtons>
        <Button aria-pressed={isLocked} title="All pictures move to the same step" onClick={lock}>
          Lockstep
        </Button>
        <KeyButton name="fullscreen" kind="plain" icon>
          <Full />
        </KeyButton>
      </div>
    </div>
  );
}

/** The steps at which the pictures are, for the link. */
function pinned([first, ...others]: readonly Shown[]) {
  return first ? { a: first.place, b: others.map(({ place }) => place) } : {};
}
