import { expect, test } from "vitest";
import { runColor } from "./runColor";

test("a run keeps its colour, and runs of similar names differ", () => {
  expect(runColor("run-1")).toBe(runColor("run-1"));
  const colors = Array.from({ length: 20 }, (_, n) => runColor(`run-${n}`));
  expect(new Set(colors).size).toBeGreaterThan(15);
  expect(colors[0]).toMatch(/^oklch\(0\.66 0\.15 \d+\)$/);
});
