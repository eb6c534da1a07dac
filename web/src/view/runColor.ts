// The colour of a run, from its id. Pure.

/** A colour that reads on dark and light. Two runs may share one: the name stands beside it. */
export function runColor(run: string): string {
  // FNV-1a.
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(run)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  // The low bits of FNV are much alike for ids that are.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) >>> 0;
  hash = (hash ^ (hash >>> 13)) >>> 0;
  return `oklch(0.66 0.15 ${hash % 360})`;
}
