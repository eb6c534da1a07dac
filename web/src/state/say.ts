// A few words that pass, such as "Link copied". Screen readers hear them.

import { signal } from "@preact/signals";

export const said = signal("");
let timer: ReturnType<typeof setTimeout> | undefined;

/** Shows words for three seconds. */
export function say(words: string): void {
  said.value = words;
  clearTimeout(timer);
  timer = setTimeout(() => {
    said.value = "";
  }, 3000);
}
