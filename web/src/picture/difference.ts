// The ways to draw how two pictures differ, as the compare page's link carries them. Pure.

import type { Comparison } from "../state/api.types";

export const KINDS = ["absolute", "signed", "relative", "squared", "ssim"] as const;
export type Kind = (typeof KINDS)[number];

/** The colormap that suits a kind: signed differences have a middle. */
export function usualColormap(kind: Kind): string {
  return kind === "signed" ? "rdbu" : kind === "ssim" ? "viridis" : "inferno";
}

/** The range that suits a kind: up to the greatest difference that there is. */
export function usualRange(kind: Kind, figures: Comparison | undefined): [number, number] {
  const most = figures?.whole?.max || figures?.peak || 1;
  switch (kind) {
    case "signed":
      return [-most, most];
    case "squared":
      return [0, most * most];
    case "relative":
    case "ssim":
      return [0, 1];
    default:
      return [0, most];
  }
}

export function kindOf(show: readonly string[]): Kind {
  return KINDS.find((kind) => show.includes(`kind-${kind}`)) ?? "absolute";
}

export function withKind(show: readonly string[], kind: Kind): string[] {
  const rest = show.filter((word) => !word.startsWith("kind-"));
  return kind === "absolute" ? rest : [...rest, `kind-${kind}`];
}

/** Cycles a second at which flicker goes by itself. Never more than 3, for the sake of people with epilepsy. */
export const RATES = [0.5, 1, 2, 3] as const;

export function otherRate(rate: number, by: number): number {
  const at = RATES.findIndex((one) => one >= rate);
  return RATES[Math.min(RATES.length - 1, Math.max(0, at + by))] ?? 1;
}

/** A figure with five digits. */
export function figure(value: number | null, digits = 5): string {
  return value === null ? "–" : String(Number(value.toPrecision(digits)));
}
