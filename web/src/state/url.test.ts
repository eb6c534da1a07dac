import { describe, expect, test } from "vitest";
import { formatView, parsePlace, parseView, START, type View } from "./url";

const views: Partial<View>[] = [
  {},
  { page: "grid", run: ["a/b", "c d&e"], key: "val/*", lay: "runs", step: 120, exact: true, size: 256 },
  { page: "grid", run: ["é"], lay: "steps", step: "18446744073709551615", sort: "-nan" },
  {
    page: "item",
    run: ["r"],
    key: 'x"<b>',
    step: 0,
    index: 7,
    z: { scale: 4, x: 12.5, y: -3 },
    show: ["v", "h"],
  },
  {
    page: "item",
    run: ["r"],
    key: "k",
    dev: { low: -1.5, high: null, gamma: 2.2, map: "viridis", channel: 0, nan: "ff00ff" },
  },
  {
    page: "compare",
    a: { run: "r&1", key: "k=2", step: 3, index: 0 },
    b: [
      { run: "r", key: "k", step: "9007199254740993", index: 2 },
      { run: "s", key: "%", step: 4, index: 0 },
    ],
    way: "swipe",
  },
  { page: "search", q: "nan>0 caption~car", ov: "-predictions" },
];

test("a link may name the box of a run", () => {
  const of = (query: string) => parseView("/item", query).run;
  expect(of("?box=gpu-17&run=exp%2F1&key=k&step=3")).toEqual(["gpu-17/exp/1"]);
  expect(of("?box=gpu%2017%2Fé&run=r")).toEqual(["gpu%2017%2F%C3%A9/r"]);
  expect(of("?run=r")).toEqual(["r"]);
});

describe("a view", () => {
  test.each(views)("survives its URL: %j", (part) => {
    const view = { ...START, ...part };
    const url = new URL(formatView(view), "http://localhost");
    expect(parseView(url.pathname, url.search)).toEqual(view);
  });

  test("leaves out what is as at the start", () => {
    expect(formatView(START)).toBe("/");
    expect(formatView({ ...START, page: "grid", run: ["a"] })).toBe("/grid?run=a");
  });

  test.each([
    ["/", "runs"],
    ["/grid", "grid"],
    ["/runs", "missing"],
    ["/grid/", "missing"],
    ["//", "missing"],
    ["/a/b", "missing"],
  ])("of %s is the page that the gallery serves there: %s", (path, page) => {
    expect(parseView(path, "").page).toBe(page);
  });

  test("never fails on a link that is wrong", () => {
    const view = parseView(
      "/nonsense/",
      "?lay=x&step=-4&index=a&size=9999&z=1,2&dev=,,x&a=run%3Dr&b=&way=no&run=",
    );
    expect(view).toEqual({
      ...START,
      page: "missing",
      size: 512,
      dev: { low: null, high: null, gamma: 1, map: "", channel: -1, nan: "" },
    });
  });
});

test("a place needs a run, a key and a step", () => {
  expect(parsePlace("run=a&key=b&step=1")).toEqual({ run: "a", key: "b", step: 1, index: 0 });
  for (const text of ["", "run=a&key=b", "run=a&step=1", "run=a&key=b&step=x"]) {
    expect(parsePlace(text), text).toBeNull();
  }
});
