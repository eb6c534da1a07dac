"""The hook for Pillow: the same pixels from unchanged callers, and whatever it does not know left to Pillow."""

from __future__ import annotations

import io
import tempfile
import unittest
from unittest import mock

import numpy as np
import tensorboardX
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

import safelight.pillow

MODES = {"1": "?", "L": "u1", "LA": "u1", "RGB": "u1", "RGBA": "u1", "I;16": "u2"}


def picture(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 1 << 16, (height, width), "u2"))
    rgba = Image.fromarray(rng.integers(0, 256, (height, width, 4), "u1"), "RGBA")
    return rgba if mode == "RGBA" else rgba.convert(mode)


def file_of(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


class Installed(unittest.TestCase):
    def setUp(self):
        safelight.pillow.install()
        self.addCleanup(safelight.pillow.uninstall)

    def pillows(self, image: Image.Image, **options) -> bytes:
        safelight.pillow.uninstall()
        try:
            return file_of(image, **options)
        finally:
            safelight.pillow.install()

    def test_code_that_wrapped_the_encoder_works_after_it_is_gone(self):
        # Regression: pictures that are left to Pillow became empty files.
        palette = picture("RGB", 8, 8).convert("P")
        want = self.pillows(palette)

        def wrapper(*args):
            safelight.pillow._save(*args)

        Image.register_save("PNG", wrapper)
        safelight.pillow.uninstall()
        self.assertEqual(file_of(palette), want)
        Image.register_save("PNG", safelight.pillow._save)

    @examples(150)
    @given(
        st.sampled_from(sorted(MODES)),
        st.integers(1, 70),
        st.integers(1, 70),
        st.sampled_from([{}, {"compress_level": 1}, {"compress_level": 9}, {"optimize": True}, {"transparency": None}]),
    )
    def test_the_pixels_are_the_same(self, mode, width, height, options):
        image = picture(mode, width, height)
        with mock.patch.object(safelight.pillow, "_pillows", None):
            ours = file_of(image, **options)
        with Image.open(io.BytesIO(ours)) as got, Image.open(io.BytesIO(self.pillows(image))) as want:
            self.assertEqual((got.mode, got.size, got.tobytes()), (want.mode, want.size, want.tobytes()))

    def test_a_photograph_is_as_small_as_pillows(self):
        y, x = np.mgrid[:256, :256]
        noise = np.random.default_rng(0).normal(0, 2, (256, 256))
        photo = Image.fromarray(np.uint8(np.clip(128 + 60 * np.sin(x / 23) + 40 * np.cos(y / 31) + noise, 0, 255)))
        self.assertLess(len(file_of(photo)), 1.03 * len(self.pillows(photo)))

    def test_what_the_encoder_does_not_know_is_left_to_pillow(self):
        rgb, icc = picture("RGB", 9, 7), picture("RGB", 9, 7)
        icc.info["icc_profile"] = b"profile"
        exif = picture("RGB", 9, 7)
        exif.info["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
        keyed = picture("L", 9, 7)
        keyed.info["transparency"] = 3
        text = PngImagePlugin.PngInfo()
        text.add_text("key", "value")
        for image, options in [
            (rgb, {"pnginfo": text}),
            (rgb, {"dpi": (72, 72)}),
            (rgb, {"icc_profile": b"profile"}),
            (rgb, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
            (rgb, {"transparency": (1, 2, 3)}),
            (rgb, {"compress_level": 0}),
            (rgb, {"compress_type": 3}),
            (rgb, {"save_all": True, "append_images": [rgb]}),
            (rgb, {"unheard": 1}),
            (icc, {}),
            (exif, {}),
            (keyed, {}),
            (rgb.convert("P"), {}),
            (rgb.convert("P"), {"bits": 8}),
        ]:
            self.assertEqual(file_of(image, **options), self.pillows(image, **options), str(options))
        self.assertNotEqual(file_of(icc, icc_profile=None), self.pillows(icc))
        with self.assertRaises(OSError):
            file_of(rgb.convert("CMYK"))

    def test_files_and_paths(self):
        image = picture("RGB", 9, 7)
        with tempfile.TemporaryDirectory() as folder:
            image.save(f"{folder}/a.png")
            with Image.open(f"{folder}/a.png") as saved:
                self.assertEqual(saved.tobytes(), image.tobytes())
            image.save(f"{folder}/a.jpg")
            with self.assertRaises(ValueError):
                image.save(f"{folder}/a.unknown")
        self.assertTrue(file_of(image).startswith(b"\x89PNG"))

    def test_installing_twice_is_installing_once(self):
        safelight.pillow.install()
        self.assertTrue(safelight.pillow.is_installed())
        safelight.pillow.uninstall()
        self.assertFalse(safelight.pillow.is_installed())
        safelight.pillow.uninstall()
        self.assertIs(Image.SAVE["PNG"], PngImagePlugin._save)
        safelight.pillow.install()

    def test_tensorboardx_writes_the_same_pixels(self):
        values = np.random.default_rng(0).random((3, 20, 30)).astype("f4")
        files = []
        for install in (safelight.pillow.install, safelight.pillow.uninstall):
            install()
            summary = tensorboardX.summary.image("key", values).value[0].image
            files.append(summary.encoded_image_string)
        ours, pillows = (Image.open(io.BytesIO(file)) for file in files)
        self.assertNotEqual(*files)
        self.assertEqual((ours.mode, ours.tobytes()), (pillows.mode, pillows.tobytes()))


if __name__ == "__main__":
    unittest.main()
