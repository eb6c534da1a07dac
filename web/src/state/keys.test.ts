import { expect, test } from "vitest";
import type { Shortcut } from "./keys";

// The list is pure, but its module listens to the history.
Object.assign(globalThis, {
  window: { addEventListener() {} },
  location: { pathname: "/", search: "" },
});
const { SHORTCUTS, shortcutsOf, shortcutsOn } = await import("./keys");
const { PAGES } = await import("./url");

const press = (key: string, held: Partial<Record<string, boolean>> = {}) => ({
  key,
  shiftKey: false,
  ctrlKey: false,
  altKey: false,
  metaKey: false,
  ...held,
});

test("a key does one thing on a page", () => {
  for (const page of PAGES) {
    const seen = new Map<string, string>();
    for (const [name, { keys }] of shortcutsOn(page)) {
      for (const key of keys) {
        expect(seen.get(key), `${key} on ${page} is ${name} and`).toBeUndefined();
        seen.set(key, name);
      }
    }
  }
});

test("a shortcut is found by its key and page", () => {
  expect(shortcutsOf(press("ArrowLeft"), "grid")).toEqual(["previous"]);
  expect(shortcutsOf(press("ArrowLeft", { shiftKey: true }), "grid")).toEqual(["previous10"]);
  expect(shortcutsOf(press("ArrowLeft"), "runs")).toEqual([]);
  expect(shortcutsOf(press("ArrowLeft", { ctrlKey: true }), "grid")).toEqual([]);
  expect(shortcutsOf(press("d"), "grid")).toEqual(["right"]);
  expect(shortcutsOf(press("d"), "item")).toEqual(["develop"]);
  // Layouts differ in whether `?` and `+` need Shift.
  expect(shortcutsOf(press("?", { shiftKey: true }), "runs")).toEqual(["help"]);
  expect(shortcutsOf(press("+", { shiftKey: true }), "grid")).toEqual(["larger"]);
});

test("each shortcut says what it does", () => {
  for (const { does, label, keys } of Object.values<Shortcut>(SHORTCUTS)) {
    expect(does).toMatch(/^[A-Z1]/);
    expect(label).not.toBe("");
    expect(keys).not.toEqual([]);
  }
});
