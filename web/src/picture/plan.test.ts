import { expect, test } from "vitest";
import { plan } from "./plan";

test("a plan has the place first, and nothing twice or outside", () => {
  for (const length of [0, 1, 2, 17, 1000, 1_000_000]) {
    for (const place of [0, 1, length >> 1, length - 1].filter((at) => at >= 0 && at < length)) {
      const places = plan(length, place, 200);
      expect(places[0]).toBe(place);
      expect(new Set(places).size).toBe(places.length);
      expect(places.every((at) => at >= 0 && at < length)).toBe(true);
      expect(places.length).toBeLessThanOrEqual(200);
    }
  }
  expect(plan(0, 0, 10)).toEqual([]);
});

test("a plan covers the track first, and the neighbours in the end", () => {
  const places = plan(1000, 500, 1000);
  const first = places.slice(3, 20).sort((a, b) => a - b);
  expect(first[0]).toBeLessThan(64);
  expect(first.at(-1)).toBeGreaterThan(900);
  for (let away = -8; away <= 8; away++) expect(places).toContain(500 + away);
});

test("plans of near places have much in common", () => {
  const a = new Set(plan(100_000, 50_000, 1000));
  const b = plan(100_000, 50_003, 1000);
  expect(b.filter((at) => a.has(at)).length / b.length).toBeGreaterThan(0.8);
});
