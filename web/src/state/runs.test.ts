import { expect, test } from "vitest";
import type { RunRow, Runs } from "./api.types";
import { joined, RunLoader } from "./runs";

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

/** A loader, the requests that wait for an answer, and what was shown. */
function loading() {
  const waiting: { cursor: string | null; limit: number; give: (answer: Runs | Error) => Promise<void> }[] =
    [];
  const shown: (string | undefined)[] = [];
  const loader = new RunLoader(
    undefined,
    (cursor, limit, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        const give = async (answer: Runs | Error) => {
          if (answer instanceof Error) reject(answer);
          else resolve(answer);
          // All that follows from an answer is done after this.
          await new Promise((next) => setTimeout(next));
        };
        waiting.push({ cursor, limit, give });
      }),
    ({ list, error }) => shown.push([...(list?.rows ?? []).map(({ run }) => run), error?.message].join(" ")),
  );
  /** Takes the only request that waits. */
  const request = () => {
    expect(waiting).toHaveLength(1);
    const [taken] = waiting.splice(0);
    if (!taken) throw new Error("no request");
    return taken;
  };
  return { loader, request, waiting, shown };
}

test("a change waits for the request that is under way", async () => {
  const { loader, request, waiting, shown } = loading();
  loader.refresh();
  loader.refresh();
  loader.refresh();
  await request().give(answer(["a"], null));
  expect(shown).toEqual(["a "]);
  await request().give(answer(["b", "a"], null));
  expect(shown).toEqual(["a ", "b a "]);
  expect(waiting).toEqual([]);
});

test("more runs come although the list changes all the time", async () => {
  const { loader, request, shown } = loading();
  loader.refresh();
  await request().give(answer(["a"], "x"));
  loader.refresh();
  loader.more();
  loader.refresh();
  await request().give(answer(["b"], "y"));
  const next = request();
  expect(next.cursor).toBe("y");
  await next.give(answer(["c"], null));
  expect(shown).toEqual(["a ", "b ", "b c "]);
  // The last change, and all that was seen.
  const again = request();
  expect(again.cursor).toBeNull();
  await again.give(answer(["d"], "z"));
  const rest = request();
  expect(rest.cursor).toBe("z");
  await rest.give(answer(["b", "c"], null));
  expect(shown.at(-1)).toBe("d b c ");
});

test("every error is shown, and the request is sent again", async () => {
  const { loader, request, shown } = loading();
  loader.refresh();
  await request().give(new SyntaxError("no JSON"));
  expect(shown).toEqual(["no JSON"]);
  loader.more();
  await request().give(answer(["a"], "x"));
  loader.more();
  await request().give(new TypeError("broken"));
  expect(shown.slice(1)).toEqual(["a ", "a broken"]);
  loader.more();
  const next = request();
  expect(next.cursor).toBe("x");
  await next.give(answer(["b"], null));
  expect(shown.at(-1)).toBe("a b ");
});

test("nothing is shown after the end", async () => {
  const { loader, request, waiting, shown } = loading();
  loader.refresh();
  const { give } = request();
  loader.refresh();
  loader.end();
  await give(answer(["a"], null));
  expect(shown).toEqual([]);
  expect(waiting).toEqual([]);
});
