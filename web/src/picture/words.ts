// Numbers and names as people read them. Pure.

import type { DumpFacts, Item } from "../state/api.types";
import { formatStep } from "../state/steps";
import type { Place } from "../state/url";
import { readable } from "./loupe";

/** Bytes with a unit: `34.5 KiB`. */
export function bytesText(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let [value, unit] = [n, 0];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** A count with separators: `1,234,567`. */
export function countText(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** A share in per cent. */
export function shareText(share: number): string {
  if (share === 0) return "0 %";
  const percent = share * 100;
  return percent < 0.01 ? "< 0.01 %" : `${Number(percent.toPrecision(3))} %`;
}

const RULES: Readonly<Record<string, string>> = {
  none: "bytes as they are",
  x255: "[0, 1] × 255",
  x65535: "[0, 1] × 65535",
  sym: "[−1, 1] to 0–255",
  clip: "clipped to 0–255",
  wrap: "low 8 bits",
  stretch: "stretched to 0–255",
  range: "range",
};

/** The rule that made the bytes. */
export function ruleText(item: Item): string {
  const rule = item.rule ?? "";
  const words = Object.hasOwn(RULES, rule) ? RULES[rule] : undefined;
  if (rule === "range" && item.range) {
    return `range ${item.range.map(readable).join(" to ")}`;
  }
  return words ? `${rule} · ${words}` : rule;
}

/** How sure it is that the values are those that made the picture. */
export function proofText({ proof, reason }: DumpFacts): string {
  switch (proof) {
    case "digest":
      return "The dump has the recorded digest.";
    case "pixels":
      return "The dump makes the stored pixels again.";
    case "held":
      return "The dump has the recorded length and time.";
    default:
      return sentence(reason ?? "the dump is not served");
  }
}

/** Makes a sentence of a reason, which begins in lower case and has no full stop. */
function sentence(reason: string): string {
  return `${reason.slice(0, 1).toUpperCase()}${reason.slice(1)}${reason.endsWith(".") ? "" : "."}`;
}

/** A name for a file that is downloaded. */
export function fileName(item: Item, ending: string): string {
  const key = (item.key ?? "item").replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80);
  return `${key}_${item.step ?? 0}_${item.index ?? 0}${ending}`;
}

/** The name of a picture among those that are compared: A, then digits. */
export function nameOf(at: number): string {
  return at === 0 ? "A" : String(at);
}

/** What tells a picture from the others. */
export function placeText({ key, step, index }: Place): string {
  return `${key} · step ${formatStep(step)}${index > 0 ? ` · index ${index}` : ""}`;
}
