// The steps of one key, kept up to date.

import { useEffect, useState } from "preact/hooks";
import { apiUrl, ask } from "./api";
import type { Segment, StepNumber, Steps } from "./api.types";
import { onChanged, refreshed } from "./live";
import { useLoaded } from "./loaded";
import { StepList } from "./steps";

/** All steps of a key that have an image or a held item. Undefined until they are there. */
export function useKeySteps(run: string | undefined, key: string): StepList | undefined {
  const version = useKeyVersion(run, key);
  const of = run && key ? `${run}\n${key}` : null;
  const loaded = useLoaded(of && `${of}\n${version}`, (signal) => allSteps(run ?? "", key, signal));
  return loaded.of?.startsWith(`${of}\n`) ? loaded.value : undefined;
}

/** Changes whenever a key has other items. */
export function useKeyVersion(run: string | undefined, key: string): number {
  const [version, setVersion] = useState(0);
  useEffect(
    () =>
      onChanged((changes) => {
        if (changes.some((change) => change.run === run && change.key === key))
          setVersion((last) => last + 1);
      }),
    [run, key],
  );
  return version + refreshed.value;
}

async function allSteps(run: string, key: string, signal: AbortSignal): Promise<StepList> {
  const segments: Segment[] = [];
  let cursor: string | null = null;
  do {
    const answer: Steps = await ask<Steps>(apiUrl("steps", { run, key, cursor }), signal);
    segments.push(...answer.segments);
    cursor = answer.next;
  } while (cursor !== null);
  return new StepList(segments);
}

/** The step of a key that is shown for a step of the page; null if the key begins later. */
export function shownStep(steps: StepList | undefined, asked: StepNumber | "last"): StepNumber | null {
  if (asked === "last") return steps?.last() ?? null;
  return steps ? steps.atMost(asked) : asked;
}
