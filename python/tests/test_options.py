"""Options that the daemon would reject, which `log` reports."""

from __future__ import annotations

import unittest
from types import SimpleNamespace
from typing import Any

from case import GRAY, Case
from live import installed, png

from safelight import Image, Run

pillow: Any = installed("PIL.Image")


class OptionsTest(Case):
    def check_left_out(self, name: str, value: Any, want: str, data: Any = GRAY) -> None:
        """Checks that the picture is logged without the option, and that this is reported once."""
        run = Run(self.dir)
        for _ in range(2):
            self.assertIs(run.log({"k": Image(data, **{name: value}, caption="c")}), False)
            line = self.lines()[-1]
            self.assertEqual((line["caption"], name in line), ("c", False))
        self.assertEqual(len(self.warnings), 1)
        self.assertIn(f"{name} of k is not logged: ValueError: got {value!r:.64}", self.warnings[0])
        self.assertIn(want, self.warnings.pop())
        with self.assertRaisesRegex(ValueError, "got "):
            Run(self.dir, strict=True).log({"k": Image(data, **{name: value})})

    def test_an_unknown_name_costs_no_picture(self) -> None:
        self.check_left_out("mode", "rgb", "want 1, L, LA, RGB, RGBA, I;16")
        self.check_left_out("profile", "wandb-0.31", "want auto, wandb-0.10, wandb-0.20, wandb-0.29")
        self.check_left_out("colormap", "virids", "viridis, magma")
        self.check_left_out("file_type", "gif", "want png, jpg, jpeg, bmp, webp")
        self.check_left_out("compression", "best", "want fast, small")
        self.check_left_out("alpha", True, "want keep, drop, composite")
        self.check_left_out("colormap", ["viridis"], "viridis, magma")
        self.check_left_out("profile", "wandb", "want auto", data=png())

    def test_a_value_out_of_bounds_costs_no_picture(self) -> None:
        self.check_left_out("range", 3, "want (low, high)")
        self.check_left_out("range", [0], "want (low, high)")
        self.check_left_out("range", [1, 0], "low < high")
        self.check_left_out("range", [0, float("inf")], "finite")
        self.check_left_out("quality", 101, "want a whole number from 1 to 100")
        self.check_left_out("downscale", 0, "want a whole number from 1")
        self.check_left_out("nan_color", "red", "want a colour such as #ff00ff")
        self.check_left_out("palette", 1, "want True or False")
        self.check_left_out("grid", {"rows": 3}, 'want True, False or {"nrow": 8, "padding": 2}')
        self.check_left_out("grid", {"padding": 2000}, "a padding of at most 1024")

    def test_an_unknown_format_costs_the_picture(self) -> None:
        self.check_refused(GRAY, ValueError, "got 'WH', want HW, HWC, CHW, NHW, NHWC, NCHW", format="WH")

    def test_options_of_other_libraries_types_are_fine(self) -> None:
        number = SimpleNamespace(tolist=lambda: 8)
        line = self.log(GRAY, quality=90.0, grid={"nrow": number}, range=(number, 9), downscale=number)
        self.assertEqual(
            (line["quality"], line["grid"], line["range"], line["downscale"]), (90, {"nrow": 8}, [8, 9], 8)
        )
        self.assertEqual(self.log(GRAY, palette=False, grid=True, alpha="drop")["grid"], True)

    def test_a_copy_has_what_is_left(self) -> None:
        image = Image(Image(GRAY, colormap="virids", alpha="drop"), caption="c")
        self.assertIs(Run(self.dir).log({"k": image}), False)
        self.assertEqual((self.lines()[0]["alpha"], self.lines()[0]["caption"]), ("drop", "c"))
        again = Image(image, colormap="viridis")
        self.assertIs(Run(self.dir).log({"k": again}), True)
        self.assertEqual(self.lines()[1]["colormap"], "viridis")

    @unittest.skipUnless(pillow, "Pillow is not installed")
    def test_any_mode_of_pillow_converts_a_picture_of_pillow(self) -> None:
        self.assertIs(
            Run(self.dir, strict=True).log({"k": Image(pillow.new("RGB", (4, 3)), mode="CMYK")}), True
        )

    def test_boxes_without_a_position_are_told(self) -> None:
        good = {"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75}, "class_id": 1}
        middle = {"position": {"middle": [1, 2], "width": 1, "height": 1}, "domain": "pixel"}
        sets = {"pred": {"box_data": [good, {"class_id": 2}, middle, {"position": {"minX": 1}}, 3]}}
        run = Run(self.dir)
        self.assertIs(run.log({"k": Image(GRAY, boxes=sets)}), False)
        self.assertEqual(len(self.lines()[0]["boxes"]["pred"]["box_data"]), 5)
        self.assertEqual([warning.split(" of ")[0] for warning in self.warnings], ["boxes/pred/1"])
        self.assertIn(
            "want a position with minX, maxX, minY and maxY, or middle, width and height", self.warnings[0]
        )
        batch = [{"pred": {"box_data": [good]}}, None, {"pred": {"box_data": [{}]}}]
        with self.assertRaisesRegex(ValueError, "got {}, want a position"):
            Run(self.dir, strict=True).log({"k": Image([GRAY] * 3, boxes=batch)})
        self.assertIs(
            Run(self.dir).log({"k": Image(GRAY, boxes={"pred": {"box_data": [good, middle]}})}), True
        )


if __name__ == "__main__":
    unittest.main()
