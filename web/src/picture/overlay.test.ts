import { describe, expect, it } from "vitest";
import type { Layer } from "../state/api.types";
import {
  boxCounts,
  boxLabel,
  classColor,
  formatOverlays,
  isShown,
  maskCounts,
  maskPixels,
  NO_OVERLAYS,
  parseOverlays,
  readBoxes,
  scoreRanges,
  settingsOf,
  soloClass,
  soloLayer,
  toggleClass,
  withSettings,
} from "./overlay";

const boxes: Layer = { kind: "boxes", name: "pred", classes: {}, size: 1 };
const mask: Layer = { kind: "mask", name: "gt", classes: {}, size: 1 };

describe("readBoxes", () => {
  const size = { width: 8, height: 4 };
  const read = (box: unknown, logged = size) => readBoxes({ box_data: [box] }, logged, size)[0];

  it("reads W&B's two forms in both units", () => {
    const want = { left: 2, top: 1, width: 4, height: 3, classId: "1", caption: "", scores: {} };
    const edges = { minX: 0.25, maxX: 0.75, minY: 0.25, maxY: 1 };
    expect(read({ position: edges, class_id: 1 })).toEqual(want);
    const middle = { middle: [4, 2.5], width: 4, height: 3 };
    expect(read({ position: middle, domain: "pixel", class_id: 1 })).toEqual(want);
    const swapped = { minX: 0.75, maxX: 0.25, minY: 1, maxY: 0.25 };
    expect(read({ position: swapped, class_id: 1 })).toEqual(want);
  });

  it("follows a picture that was scaled", () => {
    const edges = { minX: 4, maxX: 12, minY: 0.5, maxY: 2 };
    expect(read({ position: edges, domain: "pixel" }, { width: 16, height: 2 })).toMatchObject({
      left: 2,
      top: 1,
      width: 4,
      height: 3,
      classId: "",
    });
  });

  it("leaves out what is no box", () => {
    const file = { box_data: [null, 7, {}, { position: { minX: 1 } }, { position: [] }] };
    expect(readBoxes(file, size, size)).toEqual([]);
    expect(readBoxes({ box_data: 7 }, size, size)).toEqual([]);
    expect(readBoxes(null, size, size)).toEqual([]);
  });
});

describe("what is shown", () => {
  const position = { minX: 0, maxX: 1, minY: 0, maxY: 1 };
  const size = { width: 10, height: 10 };
  const all = readBoxes(
    {
      box_data: [
        { position, class_id: 1, box_caption: "car", scores: { conf: 0.9, iou: 2 } },
        { position, class_id: 1, scores: { conf: 0.3 } },
        { position, class_id: 2 },
      ],
    },
    size,
    size,
  );

  it("hides classes and low scores, but not boxes without scores", () => {
    const shown = (overlays = NO_OVERLAYS) => all.map((box) => isShown(box, settingsOf(overlays, boxes)));
    expect(shown()).toEqual([true, true, true]);
    expect(shown(withSettings(NO_OVERLAYS, boxes, { scores: { conf: 0.5 } }))).toEqual([true, false, true]);
    expect(shown(toggleClass(NO_OVERLAYS, boxes, "2"))).toEqual([true, true, false]);
    const alone = soloClass(NO_OVERLAYS, boxes, ["1", "2"], "2");
    expect(shown(alone)).toEqual([false, false, true]);
    expect(shown(soloClass(alone, boxes, ["1", "2"], "2"))).toEqual([true, true, true]);
  });

  it("shows one layer alone, and all again", () => {
    const alone = soloLayer(NO_OVERLAYS, [boxes, mask], mask);
    expect([boxes, mask].map((layer) => settingsOf(alone, layer).isHidden)).toEqual([true, false]);
    const again = soloLayer(alone, [boxes, mask], mask);
    expect([boxes, mask].map((layer) => settingsOf(again, layer).isHidden)).toEqual([false, false]);
  });

  it("counts classes and knows the ranges of scores", () => {
    expect(boxCounts(all)).toEqual(
      new Map([
        ["1", 2],
        ["2", 1],
      ]),
    );
    expect(scoreRanges(all)).toEqual([
      ["conf", 0, 1],
      ["iou", 0, 2],
    ]);
    expect(all.map((box) => boxLabel(box, "bus"))).toEqual(["car", "bus conf 0.3", "bus"]);
  });
});

describe("the parameter ov", () => {
  it("keeps all settings, hostile names too", () => {
    const hostile: Layer = { ...boxes, name: '__proto__"&=,' };
    let overlays = withSettings({ ...NO_OVERLAYS, isOff: true }, mask, { opacity: 0.25, isFilled: false });
    overlays = withSettings(overlays, hostile, {
      isHidden: true,
      hidden: ["1", "-7"],
      scores: { "a,b": 0.5 },
    });
    expect(parseOverlays(formatOverlays(overlays))).toEqual(overlays);
    expect(formatOverlays(NO_OVERLAYS)).toBeNull();
  });

  it("is ignored if it can't be read", () => {
    for (const text of [null, "", "x", "7", "[]", '{"l":7}']) {
      expect(parseOverlays(text)).toEqual(NO_OVERLAYS);
    }
    expect(parseOverlays('{"l":{"mask:gt":{"o":7,"h":8,"s":{"a":"b"}}}}').layers["mask:gt"]).toEqual({
      isHidden: false,
      opacity: 1,
      isFilled: false,
      hidden: [],
      scores: {},
    });
  });
});

describe("masks", () => {
  const ids = new Uint8Array([0, 0, 0, 0, 0, 2, 2, 2, 0, 2, 2, 2, 0, 2, 2, 2]);
  const four = { width: 4, height: 4, ids };
  const alphas = (layer: Layer, change = {}) => {
    const settings = settingsOf(withSettings(NO_OVERLAYS, layer, change), layer);
    return [...maskPixels(four, settings, (id) => classColor(Number(id)))].filter((_, at) => at % 4 === 3);
  };

  it("hides the background only if it has no name of its own", () => {
    expect(
      alphas(mask)
        .map((alpha) => (alpha ? "#" : "."))
        .join(""),
    ).toBe(".....###.###.###");
    const named: Layer = { ...mask, classes: { "0": { name: "road", color: [1, 2, 3] } } };
    expect(alphas(named)).toEqual(new Array(16).fill(128));
  });

  it("draws outlines inside the class", () => {
    const outline = alphas(mask, { isFilled: false, opacity: 1 });
    expect(outline.map((alpha) => (alpha ? "#" : ".")).join("")).toBe(".....###.#...#..");
  });

  it("counts pixels", () => {
    expect(maskCounts(four)).toEqual(
      new Map([
        ["0", 7],
        ["2", 9],
      ]),
    );
  });
});

it("has the daemon's colors", () => {
  expect(classColor(0)).toEqual([255, 40, 40]);
  expect(classColor(1)).toEqual([0, 205, 60]);
  expect(classColor(2)).toEqual([166, 40, 255]);
  expect(new Set(Array.from({ length: 266 }, (_, id) => classColor(id - 10).join())).size).toBe(266);
});
