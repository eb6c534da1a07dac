// The store that is shown.

import { signal } from "@preact/signals";
import { ApiError, apiUrl, ask } from "./api";
import type { Info } from "./api.types";

/** `/api/v1/info`, once it is there. */
export const info = signal<Info | undefined>(undefined);
/** Why it is not there. */
export const infoError = signal<ApiError | undefined>(undefined);

/** Asks for it. Returns undefined if there is no answer. */
export async function loadInfo(): Promise<Info | undefined> {
  try {
    info.value = await ask<Info>(apiUrl("info"));
    infoError.value = undefined;
    return info.value;
  } catch (error) {
    if (error instanceof ApiError) infoError.value = error;
    return undefined;
  }
}
