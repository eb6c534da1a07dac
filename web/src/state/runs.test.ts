import { expect, test } from "vitest";
import type { RunRow, Runs } from "./api.types";
import { joined } from "./runs";

const answer = (ids: string[], next: string | null): Runs => {
  const runs = ids.map((run) => ({ run }) as RunRow);
  return { runs, matching: 5, all: 9, next };
};

test("a run that has moved in the order meanwhile is listed once", () => {
  const first = joined(undefined, answer(["a", "b", "c"], "x"));
  const both = joined(first, answer(["b", "d"], null));
  expect(both.rows.map(({ run }) => run)).toEqual(["a", "b", "c", "d"]);
  expect(both).toMatchObject({ matching: 5, all: 9, next: null });
});
