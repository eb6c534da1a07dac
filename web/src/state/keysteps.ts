// The steps of one key, kept up to date.

import { useEffect, useRef, useState } from "preact/hooks";
import { apiUrl, ask, isNotFound } from "./api";
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
  return useVersion((of, changed) => of === run && changed === key);
}

function useVersion(isWanted: (run: string, key: string) => boolean): number {
  const [version, setVersion] = useState(0);
  const latest = useRef(isWanted);
  latest.current = isWanted;
  useEffect(
    () =>
      onChanged((changes) => {
        if (changes.some(({ run, key }) => latest.current(run, key))) setVersion((last) => last + 1);
      }),
    [],
  );
  return version + refreshed.value;
}

/** The steps of several keys, by the text of [`keyId`]. */
export function useStepLists(keys: readonly { run: string; key: string }[]): ReadonlyMap<string, StepList> {
  const ids = [...new Set(keys.map(keyId))].sort();
  const version = useVersion((run, key) => ids.includes(keyId({ run, key })));
  const loaded = useLoaded(ids.length > 0 ? `${ids.join("\n\n")} ${version}` : null, async (signal) => {
    const lists = ids.map((id) => {
      const [run = "", key = ""] = id.split("\n");
      return allSteps(run, key, signal);
    });
    const all = await Promise.all(lists);
    return new Map(ids.map((id, at) => [id, all[at] as StepList]));
  });
  return loaded.value ?? new Map();
}

/** A text that only this run and key have. */
export function keyId({ run, key }: { run: string; key: string }): string {
  return `${run}\n${key}`;
}

async function allSteps(run: string, key: string, signal: AbortSignal): Promise<StepList> {
  const segments: Segment[] = [];
  let cursor: string | null = null;
  do {
    const answer: Steps = await ask<Steps>(apiUrl("steps", { run, key, cursor }), signal).catch((error) => {
      if (isNotFound(error)) return { segments: [], next: null };
      throw error;
    });
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
