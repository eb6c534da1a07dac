"""`safelight.develop` and the class methods of `safelight.Image`, as a user calls them."""

from __future__ import annotations

import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import ml_dtypes
import numpy as np
from PIL import Image

import safelight
from safelight import Picture, _native, develop

PHOTO = np.random.default_rng(0).random((6, 9, 3)).astype("f4")


def pixels(picture: Picture) -> np.ndarray:
    with Image.open(io.BytesIO(picture.data)) as opened:
        return np.asarray(opened)


def run(script: str) -> str:
    """Runs a script in a process of its own. Returns what it printed."""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


class Develop(unittest.TestCase):
    def test_a_picture_says_how_it_was_made(self):
        picture = develop(PHOTO)
        np.testing.assert_array_equal(pixels(picture), np.floor(PHOTO * 255 + 0.5))
        self.assertEqual(
            (picture.mode, picture.size, picture.rule, picture.format, picture.file_type, picture.warnings),
            ("RGB", (9, 6), "x255", "HWC", "png", []),
        )
        self.assertEqual((picture.stats["min"], picture.stats["nan"]), (PHOTO.min(), 0))
        self.assertIn("9×6 RGB png", repr(picture))
        self.assertEqual((picture.png, picture._repr_png_(), picture._repr_jpeg_()), (picture.data, picture.data, None))

    def test_every_option_counts(self):
        gray = PHOTO[..., 0]
        cases = [
            ({"range": (0, 2)}, "L", np.floor(gray * np.float32(127.5) + 0.5)),
            ({"profile": "wandb-0.20"}, "L", np.trunc(gray * np.float32(255))),
            ({"mode": "RGB"}, "RGB", np.floor(gray * 255 + 0.5)[..., None].repeat(3, 2)),
        ]
        for options, mode, want in cases:
            picture = develop(gray, **options)
            self.assertEqual(picture.mode, mode)
            np.testing.assert_array_equal(pixels(picture), want, str(options))
        holes = np.where(gray < 0.5, np.nan, gray)
        red = pixels(develop(holes, nan_color="#ff0000", colormap="viridis"))
        self.assertTrue((red[gray < 0.5] == [255, 0, 0]).all())
        self.assertEqual(develop(PHOTO, downscale=4).size, (4, 3))
        self.assertEqual(develop(PHOTO.transpose(2, 0, 1), format="CHW").png, develop(PHOTO).png)
        translucent = np.dstack([PHOTO, gray])
        self.assertEqual(develop(translucent, alpha="drop").png, develop(PHOTO).png)
        self.assertEqual(develop(translucent, alpha="composite", background="#102030").mode, "RGB")
        flat = np.zeros((64, 64, 3), "u1")
        self.assertEqual(Image.open(io.BytesIO(develop(flat, palette=True).png)).mode, "P")
        noise = np.random.default_rng(1).integers(0, 4, (64, 64), "u1") * 60
        self.assertLessEqual(len(develop(noise, compression="small").png), len(develop(noise).png))
        for file_type, kind in [("jpg", "JPEG"), ("webp", "WEBP"), ("bmp", "BMP")]:
            picture = develop(PHOTO, file_type=file_type)
            self.assertEqual(Image.open(io.BytesIO(picture.data)).format, kind)
            with self.assertRaisesRegex(ValueError, f"type {file_type}, want png"):
                picture.png
        self.assertIsNotNone(develop(PHOTO, file_type="jpg", quality=5)._repr_jpeg_())

    def test_a_batch_is_a_list_under_one_rule(self):
        batch = np.stack([PHOTO, PHOTO * 2 - 1])
        pictures = develop(batch)
        self.assertEqual([picture.rule for picture in pictures], ["sym", "sym"])
        np.testing.assert_array_equal(pixels(pictures[1]), np.floor(PHOTO * 255 + 0.5))
        self.assertEqual(len(develop(batch[:1])), 1)
        self.assertEqual(develop(batch, grid={"nrow": 1, "padding": 0}).size, (9, 12))
        self.assertEqual(develop(batch[:1], grid=True).size, (9, 6))
        self.assertEqual(len(develop(np.zeros((300, 2, 2), "u1"), format="NHW")), 300)

    def test_an_option_given_here_replaces_that_of_an_image(self):
        # Regression: "auto" and "png" counted as not given.
        gray = PHOTO[..., 0]
        image = safelight.Image(gray, profile="wandb-0.20", file_type="webp")
        picture = develop(image, profile="auto", file_type="png")
        self.assertEqual((picture.file_type, picture.rule), ("png", "x255"))
        self.assertEqual(picture.data, develop(gray).data)

    def test_a_grid_is_one_picture_whoever_wants_it(self):
        # Regression: with the option in the `Image`, it was a list of one picture.
        batch = np.stack([PHOTO, PHOTO])
        want = develop(batch, grid={})
        self.assertEqual(want.size, develop(batch, grid=True).size)
        for image in (safelight.Image(batch, grid=True), safelight.Image(batch.tolist(), format="NHWC", grid={})):
            self.assertEqual(develop(image).size, want.size)
        self.assertEqual(len(develop(safelight.Image(batch, grid=True), grid=False)), 2)
        self.assertEqual(develop(batch.tolist(), grid=True).size, want.size)

    def test_an_option_that_does_not_fit_is_refused_for_all_data(self):
        # Regression: for lists, pictures of Pillow and `Image` it was left out.
        pillow = Image.fromarray((PHOTO * 255).astype("u1"))
        for data in (PHOTO, PHOTO.tolist(), pillow, safelight.Image(PHOTO), memoryview(PHOTO)):
            for name, value in {"colormap": "virids", "range": (1, 0), "quality": 0, "palette": 3}.items():
                with self.assertRaises(ValueError, msg=f"{name} of {type(data)}"):
                    develop(data, **{name: value})
        with self.assertRaisesRegex(ValueError, "virids"):
            develop(safelight.Image(PHOTO, colormap="virids"))
        boxed = safelight.Image(PHOTO, boxes={"pred": {"box_data": [{}]}}, caption="c")
        self.assertEqual(develop(boxed).png, develop(PHOTO).png)

    def test_everything_that_image_takes(self):
        rgb = np.floor(PHOTO * 255 + 0.5).astype("u1")
        want = develop(rgb).png
        png = io.BytesIO()
        Image.fromarray(rgb).save(png, "PNG")
        npy = io.BytesIO()
        np.save(npy, rgb)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "a.npy")
            path.write_bytes(npy.getvalue())
            two = pathlib.Path(folder, "two.npz")
            np.savez(two, left=rgb, right=rgb)
            self.assertEqual(develop(path).png, want)
            self.assertEqual(develop(str(path)).png, want)
            with self.assertRaisesRegex(ValueError, r"has 2 tensors \(\"left\", \"right\"\)"):
                develop(two)
            develop(rgb).save(pathlib.Path(folder, "b.png"))
            self.assertEqual(develop(f"{folder}/b.png").data, want)
            with self.assertRaises(FileNotFoundError):
                develop(f"{folder}/c.npy")
        self.assertEqual(develop(npy.getvalue()).png, want)
        self.assertEqual(develop(rgb.tolist()).png, want)
        self.assertEqual(develop(Image.fromarray(rgb)).png, want)
        self.assertEqual(develop(safelight.Image(rgb)).png, want)
        self.assertEqual(develop(png.getvalue()).png, png.getvalue())
        self.assertEqual(develop(png).png if png.seek(0) else develop(png).png, png.getvalue())
        viridis = safelight.Image(PHOTO[..., 0], colormap="viridis", file_type="webp", profile="wandb-0.20")
        picture = develop(viridis)
        self.assertEqual((picture.mode, picture.file_type), ("RGB", "webp"))
        self.assertEqual(develop(viridis, colormap="gray").data, develop(PHOTO[..., 0], profile="wandb-0.20",
                         file_type="webp", colormap="gray").data)
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            values = PHOTO.astype(getattr(ml_dtypes, name))
            self.assertEqual(develop(values).png, develop(values.astype("f4")).png)
            self.assertEqual(develop(values[::-1, ::2]).png, develop(values[::-1, ::2].astype("f4")).png)
            self.assertEqual(develop(safelight.Image(values)).png, develop(values).png)

    def test_what_makes_no_picture_is_an_error_that_says_why(self):
        for value, kind, words in [
            (object(), TypeError, "want an array"),
            (np.zeros(3), ValueError, r"shape \(3\): want"),
            (np.zeros((0, 3)), ValueError, "an axis has length 0"),
            (np.zeros((2, 2), "M8[s]"), TypeError, "want bool, or numbers"),
            (b"text", ValueError, "truncated"),
            ("https://host/a.png", ValueError, "address"),
            ([[1], [2, 3]], ValueError, "different lengths"),
            (safelight.Image("/nowhere.png"), FileNotFoundError, "nowhere"),
        ]:
            with self.assertRaisesRegex(kind, words):
                develop(value)
        for options, words in [
            ({"mode": "CMYK"}, "^mode: "),
            ({"range": (1, 0)}, "^range: "),
            ({"colormap": "pink"}, "^colormap: .*viridis"),
            ({"file_type": "gif"}, "^file_type: "),
            ({"format": "WHC"}, "^format: "),
            ({"grid": {"nrow": 0}}, "^grid: "),
        ]:
            with self.assertRaisesRegex(ValueError, words):
                develop(PHOTO, **options)

    def test_doubt_is_a_warning(self):
        (words,) = develop(PHOTO * 1000).warnings
        self.assertIn("outside of 0 to 255 and clipped", words)


class Page(unittest.TestCase):
    def test_the_snippets_of_the_page_run(self):
        page = (pathlib.Path(__file__).resolve().parents[3] / "docs/develop.md").read_text(encoding="utf-8")
        snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        self.assertEqual(len(snippets), 3)
        with tempfile.TemporaryDirectory() as folder:
            script = "\n".join(["import os", f"os.chdir({folder!r})", *snippets])
            run(script + "\nassert picture.mode == 'RGB' and picture.size == (640, 480)")
            names = sorted(path.name for path in pathlib.Path(folder).iterdir())
        self.assertEqual(names, ["batch.png", "depth.png"])


class ClassMethods(unittest.TestCase):
    def test_the_class_of_the_seed_page(self):
        self.assertEqual((safelight.Image.MAX_ITEMS, safelight.Image.MAX_DIMENSION), (108, 65500))
        self.assertEqual(safelight.Image.artifact_type, "image-file")
        modes = {(5, 6): "L", (5, 6, 1): "L", (5, 6, 2): "LA", (5, 6, 3): "RGB", (5, 6, 4): "RGBA", (3, 5, 6): "RGB"}
        for shape, mode in modes.items():
            self.assertEqual(safelight.Image.guess_mode(np.zeros(shape)), mode)
        self.assertEqual(safelight.Image([[1]]).guess_mode(np.zeros((1, 6, 3)), profile="wandb-0.20"), "L")
        with self.assertRaises(ValueError):
            safelight.Image.guess_mode(np.zeros(6))

    def test_bytes(self):
        # `docs/spec/image.md` A.5.
        rows = [
            ([0, 0.25, 0.5, 0.75, 1, 0.999], [0, 63, 127, 191, 255, 254], [0, 0, 0, 0, 1, 0]),
            ([-1, -0.5, 0, 0.5, 1, 0.2], [0, 63, 127, 191, 255, 153], [255, 0, 0, 0, 1, 0]),
            ([-300, -1, 0, 100.7, 255.9, 300], [0, 0, 0, 100, 255, 255], [212, 255, 0, 100, 255, 44]),
        ]
        for values, norm, raw in rows:
            for profile, want in [("wandb-0.20", norm), ("wandb-0.29", raw)]:
                got = safelight.Image.to_uint8(np.float32(values), profile=profile)
                self.assertEqual((got.tolist(), str(got.dtype)), (want, "uint8"))
        got = safelight.Image.to_uint8(np.float32([[1, 3], [5, 9]]), range=(1, 5))
        self.assertEqual(got.tolist(), [[0, 128], [255, 255]])
        self.assertTrue(got.flags.writeable)
        self.assertEqual(safelight.Image.to_uint8(np.zeros((0, 2))).shape, (0, 2))

    def test_all_of_a_list(self):
        box = {"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": np.int64(3)}
        plain = safelight.Image(PHOTO)
        rich = safelight.Image(
            PHOTO,
            caption="a",
            boxes={"pred": {"box_data": [box]}},
            masks={"gt": {"mask_data": np.zeros((6, 9), "u1"), "class_labels": {0: "road"}}},
        )
        self.assertEqual(safelight.Image.all_captions([plain, rich]), [None, "a"])
        boxes = safelight.Image.all_boxes([rich, plain], None, "val", 1)
        self.assertEqual(boxes[0]["pred"]["box_data"][0]["class_id"], 3)
        self.assertIsNone(boxes[1])
        masks = safelight.Image.all_masks([rich, plain], None, "val", 1)
        self.assertEqual(masks, [{"gt": {"_type": "mask", "class_labels": {"0": "road"}}}, None])
        json.dumps([boxes, masks])
        for all_of in (safelight.Image.all_captions, safelight.Image.all_boxes, safelight.Image.all_masks):
            self.assertIs(all_of([plain, plain]), False)
            self.assertIs(all_of([]), False)


class WithoutExtension(unittest.TestCase):
    def tearDown(self):
        _native.native.cache_clear()

    def test_a_missing_extension_says_how_to_install_it(self):
        _native.native.cache_clear()
        with mock.patch.dict(sys.modules, {"safelight_native": None}):
            for call in (lambda: develop(PHOTO), lambda: safelight.save_image(PHOTO, io.BytesIO())):
                with self.assertRaisesRegex(ImportError, r"pip install safelight\[native\]"):
                    call()

    def test_another_version_is_refused(self):
        _native.native.cache_clear()
        with mock.patch("safelight_native.__version__", "9.9.9"):
            with self.assertRaisesRegex(ImportError, "got 9.9.9"):
                develop(PHOTO)

    def test_free_threaded_python_is_named(self):
        _native.native.cache_clear()
        with mock.patch.dict(sys.modules, {"safelight_native": None}):
            with mock.patch("sysconfig.get_config_var", return_value=1):
                with self.assertRaisesRegex(ImportError, "free-threaded"):
                    develop(PHOTO)

    def test_a_sub_interpreter_refuses_cleanly(self):
        script = """
import safelight_native
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
import sys; sys.path[:] = %r
try:
    import safelight_native
    print("imported")
except ImportError as error:
    print("refused:", error)
try:
    import safelight
    safelight.develop([[1, 2]])
except ImportError as error:
    print("refused:", error)
'''
import sys
interpreter = interpreters.create()
interpreters.run_string(interpreter, code % (sys.path,))
interpreters.destroy(interpreter)
print("alive", len(safelight_native.develop(memoryview(bytes(6)).cast("B", (2, 3)), b"")))
"""
        said = run(script)
        self.assertNotIn("imported", said)
        self.assertEqual(said.count("refused:"), 2, said)
        self.assertTrue(said.endswith("alive 1\n"), said)

    def test_the_module_imports_neither_the_extension_nor_numpy(self):
        said = run(
            "import sys, safelight, safelight.pillow\n"
            "print([name for name in ('safelight_native', 'numpy', 'PIL', 'torch') if name in sys.modules])"
        )
        self.assertEqual(said, "[]\n")

    def test_it_works_without_numpy(self):
        said = run(
            "import sys, array, safelight\n"
            "view = memoryview(array.array('f', [0, 0.5, 1, 0.25])).cast('B').cast('f', (2, 2))\n"
            "print(safelight.develop(view), safelight.Image.to_uint8(view).tolist(), 'numpy' in sys.modules)"
        )
        self.assertEqual(said, "<safelight.Picture 2×2 L png, rule x255> [[0, 128], [255, 64]] False\n")


if __name__ == "__main__":
    unittest.main()
