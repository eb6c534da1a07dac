"""Tests of what is too large for a line or for the daemon."""

from __future__ import annotations

import json
import os
import unittest
from typing import Any

import live
from case import GRAY, Case

from safelight import Image, Run


class LargeTest(Case):
    """Annotations that are too large for a line, and what the daemon would refuse."""

    def boxes(self, n: int) -> dict[str, Any]:
        box = {"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75}, "class_id": 1}
        return {"pred": {"box_data": [box] * n, "class_labels": {"1": "é"}}}

    def beside(self, value: Any) -> Any:
        with open(self.path(value["path"]), encoding="utf-8") as file:
            return json.load(file)

    def test_boxes_of_a_batch_lie_beside_the_dump(self) -> None:
        boxes = [self.boxes(100) for _ in range(64)]
        line = self.log([GRAY] * 64, boxes=boxes, caption="c")
        self.assertRegex(line["boxes"]["path"], r"^tensors/k-0-[0-9a-f]{12}-2\.boxes\.json$")
        self.assertEqual(self.beside(line["boxes"]), boxes)
        self.assertEqual(line["caption"], "c")
        self.assertLess(os.path.getsize(self.logs()[0]), 1000)

    def test_masks_and_classes_lie_beside_the_dump(self) -> None:
        labels = {str(i): f"class {i}" for i in range(5000)}
        classes = [{"id": i, "name": f"class {i}"} for i in range(5000)]
        line = self.log(GRAY, masks={"gt": {"mask_data": GRAY, "class_labels": labels}}, classes=classes)
        self.assertEqual(self.beside(line["classes"]), classes)
        mask = self.beside(line["masks"])["gt"]
        self.assertEqual(mask["class_labels"], labels)
        self.assertTrue(os.path.exists(self.path(mask["mask_data"])))

    def test_small_annotations_stay_in_the_line(self) -> None:
        self.assertEqual(self.log(GRAY, boxes=self.boxes(100))["boxes"], self.boxes(100))

    def test_a_failed_line_takes_its_files_along(self) -> None:
        run = Run(self.dir)
        self.limit_files(4096)
        self.assertIs(run.log({"k": Image(GRAY, boxes=self.boxes(2000))}), False)
        self.assertEqual((self.lines(), self.dumps()), ([], []))

    def check_left_out(
        self, want: str, limits: dict[str, int] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Checks that the picture is logged without its one option, and that this is reported."""
        (name,) = options
        run = Run(self.dir, limits=limits)
        self.assertIs(run.log({"k": Image(GRAY, **options)}), False)
        line = self.lines()[-1]
        self.assertEqual(list(line), ["key", "step", "data", "time"])
        self.assertEqual(len(self.warnings), 1, self.warnings)
        self.assertIn(f"{name} of k is not logged: ValueError: got {want}", self.warnings.pop())
        with self.assertRaisesRegex(ValueError, want):
            Run(self.dir, strict=True, limits=limits).log({"k": Image(GRAY, **options)})
        return line

    def test_what_the_daemon_would_refuse_is_left_out_and_reported(self) -> None:
        deep: Any = 1
        for _ in range(65):
            deep = [deep]
        self.check_left_out("nested deeper than 64 levels", caption=deep)
        self.check_left_out(
            "1048579 bytes, a line of the log may have 1048576", caption="c" * ((1 << 20) + 1)
        )
        self.check_left_out("pred: 5 entries in box_data", {"boxes_max": 4}, boxes=self.boxes(5))
        self.check_left_out("65 sets", boxes={str(i): {"box_data": []} for i in range(65)})
        self.check_left_out("70000 classes", classes=[{"id": i, "name": "n"} for i in range(70000)])

    def test_too_much_beside_is_left_out(self) -> None:
        run = Run(self.dir, limits={"annotation_bytes_max": 100_000})
        self.assertIs(run.log({"k": Image(GRAY, boxes=self.boxes(2000), caption="c")}), False)
        (line,) = self.lines()
        self.assertEqual((line["caption"], "boxes" in line), ("c", False))
        self.assertIn("the daemon reads at most 100000 beside a line", self.warnings[0])

    def test_dumps_that_the_daemon_would_refuse(self) -> None:
        def check(limits: dict[str, int], want: str, data: Any, **options: Any) -> None:
            with self.assertRaisesRegex(ValueError, want):
                Run(self.dir, strict=True, limits=limits).log({"k": Image(data, **options)})
            self.assertIs(Run(self.dir, limits=limits).log({"k": Image(data, **options)}), False)

        check({"dump_bytes_max": 100}, "an array of 176 bytes, the daemon reads at most 100", GRAY)
        check({"pixels_max": 5}, "a picture of 6 pixels, the daemon makes at most 5", GRAY)
        check({"batch_max": 1}, "2 pictures in one array", [GRAY, GRAY], format="NHW")
        check({"file_bytes_max": 10}, "an image file of", live.png())
        self.assertEqual((self.lines(), self.dumps()), ([], []))
        self.assertTrue(Run(self.dir, strict=True, limits={"pixels_max": 6}).log({"k": Image(GRAY)}))
        with self.assertRaisesRegex(ValueError, "got the limits .*'lines'"):
            Run(self.dir, limits={"lines": 1})

    def test_an_identity_that_the_daemon_would_refuse(self) -> None:
        deep: Any = 1
        for _ in range(70):
            deep = {"a": deep}
        Run(self.dir, id="7", name="n", tags=["t" * (1 << 20)], config=deep)
        with open(self.path("safelight.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file), {"id": "7", "name": "n"})
        self.assertIn("config of the run is not logged: ValueError: nested deeper", self.warnings[0])
        self.assertIn("tags of the run is not logged", self.warnings[1])


if __name__ == "__main__":
    unittest.main()
