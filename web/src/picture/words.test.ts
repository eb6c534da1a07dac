import { expect, it } from "vitest";
import type { DumpFacts, Item } from "../state/api.types";
import { bytesText, countText, fileName, proofText, ruleText, shareText } from "./words";

it("says numbers as people do", () => {
  expect([0, 1023, 1024, 35328, 5 << 20].map(bytesText)).toEqual([
    "0 B",
    "1023 B",
    "1.0 KiB",
    "34.5 KiB",
    "5.0 MiB",
  ]);
  expect([0, 999, 1000, 1234567].map(countText)).toEqual(["0", "999", "1,000", "1,234,567"]);
  expect([0, 0.00001, 0.0123456, 1].map(shareText)).toEqual(["0 %", "< 0.01 %", "1.23 %", "100 %"]);
});

it("explains rules", () => {
  expect(ruleText({ rule: "x255" } as Item)).toBe("x255 · [0, 1] × 255");
  expect(ruleText({ rule: "range", range: [0, 80] } as unknown as Item)).toBe("range 0 to 80");
  expect(ruleText({ rule: "toString" } as Item)).toBe("toString");
});

it("names files without slashes", () => {
  const item = { key: "../a/b c\u0000", step: "18446744073709551615", index: 3 } as Item;
  expect(fileName(item, ".png")).toBe(".._a_b_c__18446744073709551615_3.png");
});

it("says why there are no values in a sentence", () => {
  const text = (reason: string | null) => proofText({ proof: "none", reason } as unknown as DumpFacts);
  expect(text("its dump is on the box that made it")).toBe("Its dump is on the box that made it.");
  expect(text(null)).toBe("The dump is not served.");
});
