// Globs of keys: `*` is any text, `?` one character, the rest itself. Pure.

/** Whether a key matches a glob. The empty one matches all keys. */
export function matches(glob: string, key: string): boolean {
  if (glob === "") return true;
  // Two places to fall back to make this linear in practice, and never exponential.
  let at = 0;
  let star = -1;
  let after = 0;
  for (let i = 0; i < key.length; ) {
    if (glob[at] === "*") {
      star = at++;
      after = i;
    } else if (at < glob.length && (glob[at] === "?" || glob[at] === key[i])) {
      at++;
      i++;
    } else if (star >= 0) {
      at = star + 1;
      i = ++after;
    } else {
      return false;
    }
  }
  while (glob[at] === "*") at++;
  return at === glob.length;
}

/** Whether a key matches what was typed: a glob, or a part of the key if there is no `*` or `?`. */
export function matchesTyped(typed: string, key: string): boolean {
  return matches(asGlob(typed), key);
}

/** What was typed as a glob. */
export function asGlob(typed: string): string {
  return typed === "" || /[*?]/.test(typed) ? typed : `*${typed}*`;
}
