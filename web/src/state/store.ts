// The store that is shown.

import { signal } from "@preact/signals";
import { apiUrl, ask } from "./api";
import type { Info } from "./api.types";
import { listenToChanges, refreshed } from "./live";

/** `/api/v1/info`, once it is there. */
export const info = signal<Info | undefined>(undefined);

const RETRY_MS = 2_000;

/** Asks for it until there is an answer, and then listens to changes if a daemon serves the gallery. */
export async function loadInfo(): Promise<void> {
  try {
    info.value = await ask<Info>(apiUrl("info"));
  } catch {
    // The pages say what is wrong. The gallery may be starting.
    setTimeout(() => void loadInfo(), RETRY_MS);
    return;
  }
  if (info.value.as_of === null) listenToChanges();
  // After a restart it may be another version, with other limits.
  let isFirst = true;
  refreshed.subscribe(() => {
    if (!isFirst) ask<Info>(apiUrl("info")).then(take, () => undefined);
    isFirst = false;
  });
}

function take(now: Info): void {
  info.value = now;
}
