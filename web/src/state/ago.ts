// How long ago something was, in words. Pure.

const UNITS: [number, string][] = [
  [86_400, "day"],
  [3_600, "hour"],
  [60, "minute"],
];

/** Seconds as words: "now", "3 minutes ago". */
export function ago(seconds: number): string {
  for (const [size, name] of UNITS) {
    const n = Math.floor(seconds / size);
    if (n >= 1) return `${n} ${name}${n === 1 ? "" : "s"} ago`;
  }
  return seconds < 10 ? "now" : `${Math.floor(seconds)} seconds ago`;
}
