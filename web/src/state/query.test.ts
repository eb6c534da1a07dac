import { expect, test } from "vitest";
import { commandOf, parseQuery, shellWord, wordsOf } from "./query";

test("words are split outside quotes", () => {
  expect(wordsOf(`  nan>0  caption~"red car" 'a b'c "" `)).toEqual(["nan>0", "caption~red car", "a bc", ""]);
  expect(wordsOf(String.raw`"say \"x\"" 'it''s'`)).toEqual(['say "x"', "its"]);
  expect(wordsOf(`"open end`)).toEqual(["open end"]);
});

test("a search becomes parameters", () => {
  const none = { run: null, key: null, first: null, last: null, state: null, where: [], errors: [] };
  expect(parseQuery("")).toEqual(none);
  expect(parseQuery("nan>0 car key~val step:100..200 state:held")).toEqual({
    ...none,
    first: "100",
    last: "200",
    state: "held",
    where: ["nan>0", "caption~car", "key~val"],
  });
  expect(parseQuery(`run:a key:"b c" step:7`)).toEqual({
    ...none,
    run: "a",
    key: "b c",
    first: "7",
    last: "7",
  });
  expect(parseQuery("step:..9")).toEqual({ ...none, last: "9" });
  expect(parseQuery("step:18446744073709551615..")).toEqual({ ...none, first: "18446744073709551615" });
});

test("what is wrong is said", () => {
  expect(parseQuery("state:gone").errors).toEqual([
    "got state:gone, want state: and one of image, held, rejected, waiting",
  ]);
  for (const word of ["step:", "step:..", "step:a", "step:-1", "step:99999999999999999999"]) {
    expect(parseQuery(word).errors, word).toHaveLength(1);
  }
});

test("the command line is what a shell reads back", () => {
  const query = parseQuery(`run:a key:b nan>0 "it's" step:..200 state:held`);
  expect(commandOf(query, { store: "/s x", fleet: false })).toBe(
    String.raw`safelight --store '/s x' ls a b --step ..200 --state held --where 'nan>0' --where 'caption~it'\''s'`,
  );
  const store = { store: "/s", fleet: false };
  expect(commandOf(parseQuery("key:b step:7"), store)).toBe("safelight --store /s ls --step 7 --where key=b");
  const fleet = { store: "s3://media/fleet", fleet: true };
  expect(commandOf(parseQuery("key:b"), fleet)).toBe(null);
  expect(commandOf(parseQuery("run:gpu-1/a"), fleet)).toBe("safelight ls --from s3://media/fleet gpu-1/a");
  expect(shellWord("")).toBe("''");
});
