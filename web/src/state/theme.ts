// Dark or light: as the system says, unless the user chose.

import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const NAME = "safelight-theme";
const ORDER: readonly Theme[] = ["system", "light", "dark"];

function stored(): Theme {
  try {
    return ORDER.find((theme) => theme === localStorage.getItem(NAME)) ?? "system";
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
    return "system";
  }
}

/** The theme that was chosen. */
export const theme = signal<Theme>(stored());

const dark = matchMedia("(prefers-color-scheme: dark)");
/** Changes with the system's theme. */
const systemTheme = signal(dark.matches);
dark.addEventListener("change", () => {
  systemTheme.value = dark.matches;
});

/** Applies the theme to the page, now and after each change. */
theme.subscribe((chosen) => {
  if (chosen === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", chosen);
});

/** Goes to the next theme: the opposite of the system's, then the other one, then the system's. */
export function nextTheme(): void {
  const isDark = systemTheme.peek();
  const order: readonly Theme[] = isDark ? ["system", "light", "dark"] : ["system", "dark", "light"];
  theme.value = order[(order.indexOf(theme.peek()) + 1) % order.length] ?? "system";
  try {
    localStorage.setItem(NAME, theme.peek());
  } catch {
    // As above.
  }
}

/** The colour of a token such as `--tick`, for canvases. Subscribes to the theme. */
export function color(token: string): string {
  void theme.value;
  void systemTheme.value;
  const probe = document.createElement("span");
  probe.style.color = `var(${token})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
