import { part, push, replace } from "../state/route";
import { formatStep } from "../state/steps";
import { type Place, START } from "../state/url";
import { Close } from "./icons";
import { Button } from "./parts";

const chosen = { a: part("a"), b: part("b") };

/** The pictures that were chosen to be compared. */
export function CompareTray() {
  const [a, b] = [chosen.a.value, chosen.b.value];
  const all = [a, ...b].filter((one) => one !== null);
  if (all.length === 0) return null;
  const drop = (place: Place) => {
    const [first = null, ...rest] = all.filter((one) => one !== place);
    replace({ a: first, b: rest });
  };
  return (
    <section class="tray" aria-label="To compare">
      <ul>
        {all.map((place, at) => (
          <li key={`${place.run} ${place.key} ${place.step} ${place.index}`} class="tray-place">
            <strong>{at === 0 ? "A" : at}</strong>
            <span class="cut" title={`${place.run}, ${place.key}`}>
              <bdi>{place.key}</bdi>
            </span>
            <span class="muted num">
              {formatStep(place.step)}
              {place.index > 0 && ` · ${place.index}`}
            </span>
            <Button kind="plain" icon aria-label={`Take away ${place.key}`} onClick={() => drop(place)}>
              <Close />
            </Button>
          </li>
        ))}
      </ul>
      <Button onClick={() => replace({ a: null, b: [] })}>Clear</Button>
      <Button
        kind="main"
        disabled={all.length < 2}
        title={all.length < 2 ? "Add a second picture" : "Compare them"}
        onClick={() => push({ ...START, page: "compare", a, b })}
      >
        Compare
      </Button>
    </section>
  );
}
