// What is open and on in the item and compare pages, as the parameter `show` carries it. Pure.

/** Everything that can be on or off, and whether it is without a word in the link. */
export const SWITCHES = {
  loupe: true,
  histogram: true,
  overlays: true,
  develop: false,
  logarithmic: false,
  smooth: false,
} as const;

export type Switch = keyof typeof SWITCHES;

export const BACKDROPS = ["checks", "black", "white", "grey"] as const;
export type Backdrop = (typeof BACKDROPS)[number];

/** How the range is chosen for each picture that is not held to one range. */
export type AutoRange = "extremes" | "percentiles";

type Show = readonly string[];

export function isOn(show: Show, name: Switch): boolean {
  return SWITCHES[name] ? !show.includes(`no-${name}`) : show.includes(name);
}

export function toggled(show: Show, name: Switch): string[] {
  const word = SWITCHES[name] ? `no-${name}` : name;
  return show.includes(word) ? without(show, word) : [...show, word];
}

/** Marks are on where a picture has NaN or infinities, unless they were turned on or off. */
export function areMarksOn(show: Show, isOdd: boolean): boolean {
  return show.includes("marks") || (isOdd && !show.includes("no-marks"));
}

export function marksToggled(show: Show, isOdd: boolean): string[] {
  const rest = without(show, "marks", "no-marks");
  return [...rest, areMarksOn(show, isOdd) ? "no-marks" : "marks"];
}

export function backdropOf(show: Show): Backdrop {
  return BACKDROPS.find((name) => show.includes(`on-${name}`)) ?? "checks";
}

export function withBackdrop(show: Show, backdrop: Backdrop): string[] {
  const rest = without(show, ...BACKDROPS.map((name) => `on-${name}`));
  return backdrop === "checks" ? rest : [...rest, `on-${backdrop}`];
}

export function nextBackdrop(show: Show): string[] {
  const at = BACKDROPS.indexOf(backdropOf(show));
  return withBackdrop(show, BACKDROPS[(at + 1) % BACKDROPS.length] ?? "checks");
}

/** Null: the range is held, so that pictures compare. */
export function autoRangeOf(show: Show): AutoRange | null {
  if (show.includes("auto-extremes")) return "extremes";
  return show.includes("auto-percentiles") ? "percentiles" : null;
}

export function withAutoRange(show: Show, auto: AutoRange | null): string[] {
  const rest = without(show, "auto-extremes", "auto-percentiles");
  return auto === null ? rest : [...rest, `auto-${auto}`];
}

function without(show: Show, ...words: string[]): string[] {
  return show.filter((word) => !words.includes(word));
}
