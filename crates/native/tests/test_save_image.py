"""`safelight.save_image` against the pixels that the real torchvision wrote (`tests/golden/save_image/make.py`)."""

from __future__ import annotations

import io
import json
import os
import tempfile
import unittest
from pathlib import Path

import ml_dtypes
import numpy as np
from PIL import Image

import safelight

GOLDEN = Path(__file__).resolve().parents[3] / "tests/golden/save_image/cases.npz"
TYPES = {"float32": "f4", "float64": "f8", "bfloat16": ml_dtypes.bfloat16}


def saved(tensor, **options) -> Image.Image:
    file = io.BytesIO()
    safelight.save_image(tensor, file, **options)
    return Image.open(io.BytesIO(file.getvalue()))


class SaveImage(unittest.TestCase):
    def test_the_pixels_are_those_of_torchvision(self):
        golden = np.load(GOLDEN)
        cases = json.loads(str(golden["cases"]))
        for i, case in enumerate(cases):
            options = case["options"]
            if "value_range" in options:
                options["value_range"] = tuple(options["value_range"])
            values = golden[case["tensor"]].astype(TYPES[case["dtype"]])
            before = values.copy()
            picture = saved(values, **options)
            self.assertEqual(picture.mode, case["mode"], case)
            np.testing.assert_array_equal(np.asarray(picture), golden[f"pixels_{i}"], str(case))
            self.assertEqual(values.tobytes(), before.tobytes(), "the values are left as they are")
        self.assertEqual(len(cases), 312)

    def test_a_list_is_a_batch(self):
        values = np.random.default_rng(0).random((4, 3, 5, 6), "f4")
        self.assertEqual(saved(list(values), nrow=2).tobytes(), saved(values, nrow=2).tobytes())

    def test_bytes_are_stored_as_they_are(self):
        values = np.arange(2 * 3 * 4 * 5, dtype="u1").reshape(2, 3, 4, 5)
        picture = np.asarray(saved(values, padding=0))
        np.testing.assert_array_equal(picture, np.concatenate(values.transpose(0, 2, 3, 1), 1))

    def test_nan_is_black_and_infinity_white(self):
        values = np.float32([[np.nan, np.inf, -np.inf, 0.5]])
        for dtype in ("f4", "f2"):
            self.assertEqual(list(np.asarray(saved(values.astype(dtype)))[0, :, 0]), [0, 255, 0, 128])

    def test_the_path_or_the_format_names_the_type(self):
        values = np.random.default_rng(0).random((3, 8, 9), "f4")
        with tempfile.TemporaryDirectory() as folder:
            for name, kind in [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.webp", "WEBP"), ("a.bmp", "BMP")]:
                path = os.path.join(folder, name)
                safelight.save_image(values, path)
                with Image.open(path) as picture:
                    self.assertEqual((picture.format, picture.size), (kind, (9, 8)))
            safelight.save_image(values, Path(folder) / "b.dat", "png")
            with self.assertRaisesRegex(ValueError, "tga"):
                safelight.save_image(values, os.path.join(folder, "c.tga"))
            self.assertFalse(os.path.lexists(os.path.join(folder, "c.tga")))

    def test_what_is_no_picture_is_an_error(self):
        for value, kind in [
            ([], ValueError),
            ("text", TypeError),
            (np.zeros(3, "f4"), ValueError),
            (np.zeros((1, 2, 3, 4, 5), "f4"), ValueError),
            (np.zeros((2, 5, 4, 4), "f4"), ValueError),
            (np.zeros((3, 4, 4), "i8"), TypeError),
        ]:
            with self.assertRaises(kind):
                saved(value)
        with self.assertRaises(TypeError):
            saved(np.zeros((3, 4, 4), "f4"), normalize=True, value_range=[0, 1])
        # torchvision cannot divide bytes either.
        with self.assertRaisesRegex(TypeError, "got uint8 with normalize"):
            saved(np.full((3, 4, 4), 128, "u1"), normalize=True)


if __name__ == "__main__":
    unittest.main()
