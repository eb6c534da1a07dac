// The rule of a configuration that makes pictures as they are developed here. Pure.

import type { Develop } from "./develop";

/** Returns a `[[image.rule]]` for a key. What no rule can say is a comment. */
export function ruleOf(key: string, how: Develop): string {
  const lines = [
    "[[image.rule]]",
    `key = ${tomlText(key)}`,
    `range = [${tomlNumber(how.low)}, ${tomlNumber(how.high)}]`,
  ];
  if (how.colormap !== null && how.colormap !== "gray") {
    lines.push(`colormap = ${tomlText(how.colormap)}`);
  }
  if (how.nanColor) {
    lines.push(`nan_color = "${hexColor(how.nanColor)}"`);
  }
  if (how.gamma !== 1) {
    lines.push(`# A rule has no gamma: ${how.gamma} is left out.`);
  }
  if (how.channel !== null) {
    lines.push(`# A rule chooses no channel: channel ${how.channel} is left out.`);
  }
  return `${lines.join("\n")}\n`;
}

export function hexColor(color: readonly [number, number, number]): string {
  return `#${color.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Reads `#rrggbb`, with or without its sign. */
export function parseHexColor(text: string): [number, number, number] | null {
  const digits = /^#?([0-9a-f]{6})$/i.exec(text)?.[1];
  if (!digits) return null;
  const byte = (at: number) => Number.parseInt(digits.slice(at, at + 2), 16);
  return [byte(0), byte(2), byte(4)];
}

/** A basic string of TOML. */
function tomlText(text: string): string {
  const escaped = JSON.stringify(text).replace(/\u007f/g, "\\u007F");
  return escaped.replace(/\\u([0-9a-f]{4})/gi, (_, digits: string) => `\\u${digits.toUpperCase()}`);
}

/** A float of TOML, which needs a point or an exponent. */
function tomlNumber(value: number): string {
  const text = String(Object.is(value, -0) ? 0 : value);
  return /[.e]/.test(text) ? text.replace("e+", "e") : `${text}.0`;
}
