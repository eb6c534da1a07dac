import { MARKS } from "../picture/develop";
import { countText } from "../picture/words";
import { Panel } from "./Panel";
import { KeyButton } from "./parts";

const ROWS = [
  ["NaN", MARKS.nan, "nan"],
  ["+Inf", MARKS.positiveInf, "up"],
  ["−Inf", MARKS.negativeInf, "down"],
  ["below the range", MARKS.below, "below"],
  ["above the range", MARKS.above, "above"],
] as const;

interface MarksProps {
  areOn: boolean;
  /** Pixels with each mark; null if they are not known. */
  counts: readonly number[] | null;
}

/** What the marks on the picture mean, and how many there are. */
export function MarksPanel({ areOn, counts }: MarksProps) {
  const note = areOn && (
    <KeyButton name="nextNan" kind="plain">
      Next NaN
    </KeyButton>
  );
  return (
    <Panel title="Marks" name="marks" isOpen={areOn} note={note}>
      <ul class="legend">
        {ROWS.map(([name, code, swatch]) => (
          <li key={name}>
            <span class={`mark is-${swatch}`} aria-hidden="true" />
            {name}
            <span class="num mono">{counts ? countText(counts[code] ?? 0) : "–"}</span>
          </li>
        ))}
      </ul>
      {!counts && (
        <p class="note">No values to be marked: they are too many, not there yet, or not served.</p>
      )}
    </Panel>
  );
}
