// The store that is shown.

import { signal } from "@preact/signals";
import { ApiError, apiUrl, ask } from "./api";
import type { Info } from "./api.types";

/** `/api/v1/info`, once it is there. */
export const info = signal<Info | undefined>(undefined);
/** Why it is not there. */
export const infoError = signal<ApiError | undefined>(undefined);

/** Asks for it. */
export async function loadInfo(): Promise<void> {
  try {
    info.value = await ask<Info>(apiUrl("info"));
    infoError.value = undefined;
  } catch (error) {
    if (error instanceof ApiError) infoError.value = error;
  }
}
