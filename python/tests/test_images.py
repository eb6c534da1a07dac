"""Tests of images: what may be logged, and the lines and values that it makes."""

from __future__ import annotations

import array
import collections
import ctypes
import decimal
import enum
import fractions
import io
import itertools
import math
import os
import pathlib
import struct
import subprocess
import sys
import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

import live
from case import GRAY, PACKAGE, Case, Npy, read_npy
from live import installed

from safelight import Image, Run, _dumps, _image

numpy: Any = installed("numpy")
ml_dtypes: Any = installed("ml_dtypes")


class InputTest(Case):
    def test_lists_of_whole_numbers(self) -> None:
        want = Npy("<i8", (2, 3), struct.pack("<6q", 0, 128, 255, 1, 2, 3))
        self.assertEqual(self.npy(GRAY), want)
        self.assertEqual(self.npy(tuple(map(tuple, GRAY))), want)

    def test_lists_of_floats_and_of_bool(self) -> None:
        self.assertEqual(self.npy([[0, 0.5]]), Npy("<f8", (1, 2), struct.pack("<2d", 0, 0.5)))
        self.assertEqual(self.npy([[True], [False]]), Npy("|b1", (2, 1), b"\1\0"))

    def test_lists_of_four_axes(self) -> None:
        self.assertEqual(self.npy(live.nested(list(range(24)), 2, 2, 2, 3)).shape, (2, 2, 2, 3))

    def test_lists_that_are_no_array(self) -> None:
        self.check_refused([[1, 2], [3]], ValueError, "lists of different lengths at depth 1")
        self.check_refused([[1], 2], ValueError, "lists of different lengths")
        self.check_refused([["a"]], TypeError, "want nested lists of numbers")
        self.check_refused([[1 << 64]], OverflowError, "")

    def test_buffers(self) -> None:
        self.check_refused(array.array("d", [1.5]), ValueError, "got an array of shape (1,)")
        want = Npy("<f4", (2, 2), struct.pack("<4f", 1, 2, 3, 4))
        self.assertEqual(self.npy(((ctypes.c_float * 2) * 2)((1, 2), (3, 4))), want)
        shorts = memoryview(struct.pack("4H", 1, 2, 3, 4)).cast("B").cast("H", [2, 2])
        self.assertEqual(self.npy(shorts), Npy("<u2", (2, 2), struct.pack("<4H", 1, 2, 3, 4)))
        numbers = memoryview(bytes(range(6))).cast("B", [2, 3])
        self.assertEqual(self.npy(numbers), Npy("|u1", (2, 3), bytes(range(6))))

    def test_encoded_images_are_kept(self) -> None:
        for extension, content in [
            ("png", live.png()),
            ("jpg", b"\xff\xd8\xff\xe0 and so on"),
            ("gif", b"GIF89a and so on"),
            ("bmp", b"BM and so on"),
            ("webp", b"RIFF\x0a\x00\x00\x00WEBP and so on"),
            ("tiff", b"II*\x00 and so on"),
            ("tiff", b"MM\x00* and so on"),
        ]:
            for data in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
                line = self.log(data)
                self.assertTrue(line["data"].endswith(f".{extension}"), line)
                self.assertEqual(self.content(line), content)

    def test_the_content_of_a_file_decides_its_type(self) -> None:
        named = os.path.join(self.folder, "named.jpg")
        with open(named, "wb") as file:
            file.write(live.png())
        image = Image(named, mode="L", file_type="jpg", caption="c")
        os.remove(named)
        self.assertTrue(Run(self.dir, strict=True).log({"k": image}))
        (line,) = self.lines()
        self.assertTrue(line["data"].endswith(".png"))
        self.assertEqual(self.content(line), live.png())
        self.assertEqual(set(line), {"key", "step", "data", "time", "caption"})

    def test_values_that_are_no_images_are_refused(self) -> None:
        text = os.path.join(self.folder, "text.png")
        with open(text, "w") as file:
            file.write("no image")
        self.check_refused(text, ValueError, "got b'no image', want the bytes of a png")
        self.check_refused(os.path.join(self.folder, "none.png"), FileNotFoundError, "none.png")
        self.check_refused("/dev/zero", ValueError, "want the bytes of a png")
        self.check_refused(b"", ValueError, "got nothing")
        self.check_refused(io.StringIO("text"), TypeError, "")
        for address in ("http://h/a.png", "https://h/a.png", "s3://b/a.png", "gs://b/a.png"):
            self.check_refused(
                address, ValueError, f"want an image file on this machine (download it first): {address}"
            )
        self.check_refused(None, TypeError, "got a builtins.NoneType, want an array")
        self.check_refused(3, TypeError, "got a builtins.int")
        self.check_refused(object(), TypeError, "got a builtins.object")

    def test_an_image_holds_a_copy(self) -> None:
        values = (ctypes.c_uint8 * 2 * 1)((1, 2))
        image = Image(values)
        values[0][0] = 9
        self.assertTrue(Run(self.dir, strict=True).log({"k": image}))
        self.assertEqual(read_npy(self.path(self.lines()[0]["data"])).elements, b"\1\2")

    def test_copying_an_image(self) -> None:
        boxes = {"a": {"box_data": []}}
        first = Image(GRAY, "L", "old", 1, [{"id": 1, "name": "a"}], boxes, {"m": {"mask_data": GRAY}})
        run = Run(self.dir, strict=True)
        run.log({"same": Image(first), "new": Image(first, caption="new", grouping=2, boxes={"b": {}})})
        same, new = self.lines()
        self.assertEqual((same["caption"], same["grouping"], same["mode"]), ("old", 1, "L"))
        self.assertEqual((same["boxes"], list(same["masks"])), (boxes, ["m"]))
        self.assertEqual((new["caption"], new["grouping"], new["boxes"]), ("new", 2, {"b": {}}))
        self.assertEqual(new["classes"], [{"id": 1, "name": "a"}])
        self.assertNotEqual(same["data"], new["data"])
        with self.assertRaisesRegex(TypeError, "got a builtins.object"):
            run.log({"k": Image(Image(object()), caption="new")})

    def test_nothing_is_imported(self) -> None:
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); import safelight;"
            "safelight.Run(sys.argv[2], strict=True).log({'k': safelight.Image([[1]])});"
            "print([name for name in ('numpy', 'torch', 'PIL', 'matplotlib', 'jax') if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, PACKAGE, self.dir], stdout=subprocess.PIPE, check=True
        )
        self.assertEqual(done.stdout, b"[]\n")


class LineTest(Case):
    def test_a_line_has_the_given_fields(self) -> None:
        given = {
            "mode": "L",
            "caption": "épreuve ⚠",
            "grouping": 2,
            "classes": [{"id": 1, "name": "car"}],
            "file_type": "jpg",
            "format": "HW",
            "profile": "auto",
            "range": [-1, 1],
            "colormap": "viridis",
            "nan_color": "#ff0000",
            "quality": 90,
            "compression": "small",
            "palette": True,
            "alpha": "drop",
            "background": "#ffffff",
            "grid": {"nrow": 8},
            "downscale": 256,
        }
        line = self.log(GRAY, **given)
        self.assertRegex(line.pop("data"), r"^tensors/k-0-[0-9a-f]{12}-1\.npy$")
        self.assertEqual(line, given)
        with open(self.logs()[0], encoding="utf-8") as file:
            self.assertIn("épreuve ⚠", file.read())

    def test_a_line_has_no_other_fields(self) -> None:
        self.assertEqual(list(self.log(GRAY, mode="", file_type="", boxes={}, masks={})), ["data"])

    def test_the_first_parameters_are_those_of_wandb(self) -> None:
        names = "data_or_path mode caption grouping classes boxes masks file_type".split()
        code = Image.__init__.__code__
        self.assertEqual(list(code.co_varnames[1 : code.co_argcount]), names)

    def test_normalize_is_a_profile(self) -> None:
        self.assertNotIn("profile", self.log(GRAY))
        self.assertEqual(self.log(GRAY, normalize=True)["profile"], "wandb-0.20")
        self.assertEqual(self.log(GRAY, normalize=False)["profile"], "wandb-0.29")
        self.assertEqual(self.log(GRAY, normalize=False, profile="auto")["profile"], "auto")

    def test_numbers_of_any_library_become_numbers(self) -> None:
        def number(value: Any) -> Any:
            return SimpleNamespace(tolist=lambda: value)

        box = {
            "position": {"middle": number([1, 2]), "width": number(0.5), "height": 1},
            "class_id": number(3),
        }
        line = self.log(
            GRAY,
            boxes={"p": {"box_data": [box], "class_labels": {3: "car", 4.5: "x"}}},
            grouping=SimpleNamespace(numpy=lambda: number(7)),
            classes=SimpleNamespace(_class_set=({"id": number(1), "name": "a"},)),
            caption={"set": {1}, "path": os.PathLike, "nan": float("nan")},
        )
        plain = {"position": {"middle": [1, 2], "width": 0.5, "height": 1}, "class_id": 3}
        self.assertEqual(
            line["boxes"], {"p": {"box_data": [plain], "class_labels": {"3": "car", "4.5": "x"}}}
        )
        self.assertEqual((line["grouping"], line["classes"]), (7, [{"id": 1, "name": "a"}]))
        self.assertEqual(line["caption"]["set"], [1])

    def test_masks_are_dumped(self) -> None:
        ready = os.path.join(self.folder, "ready.png")
        with open(ready, "wb") as file:
            file.write(live.png())
        line = self.log(
            GRAY,
            key="val/pred",
            masks={
                "gt": {"mask_data": [[0, 1]], "class_labels": {0: "road"}, "one_hot": False},
                "ready": {"path": ready},
            },
        )
        gt, ready_mask = line["masks"]["gt"], line["masks"]["ready"]
        self.assertEqual((gt["class_labels"], gt["one_hot"]), ({"0": "road"}, False))
        self.assertEqual(read_npy(self.path(gt["mask_data"])).elements, struct.pack("<2q", 0, 1))
        self.assertEqual(self.content({"data": ready_mask["path"]}), live.png())
        self.assertEqual(len(self.dumps()), 3)

    def test_masks_of_a_batch(self) -> None:
        line = self.log([GRAY, GRAY], masks=[{"gt": {"mask_data": GRAY}}, None])
        self.assertEqual(line["masks"][1], None)
        self.assertIn("mask", line["masks"][0]["gt"]["mask_data"])

    def test_a_mask_that_is_none_costs_no_picture_and_no_other_mask(self) -> None:
        good = {"mask_data": GRAY}
        for masks, kind, want in [
            (3, TypeError, "got masks of type int"),
            ({"gt": GRAY}, TypeError, "got a list as a mask"),
            ({"gt": {"class_labels": {}}, "good": good}, TypeError, "got a dict as a mask"),
            ({"gt": {"mask_data": live.png()}, "good": good}, TypeError, "ready mask goes to"),
            ({"gt": {"path": "missing.png"}, "good": good}, FileNotFoundError, "missing.png"),
        ]:
            with self.assertRaisesRegex(kind, want):
                Run(self.dir, strict=True).log({"k": Image(GRAY, masks=masks)})
            for image in (Image(GRAY, masks=masks), Image(Image(GRAY, masks=masks), caption="c")):
                self.warnings.clear()
                self.assertIs(Run(self.dir).log({"k": image}), False)
                self.assertEqual(len(self.warnings), 1, self.warnings)
                self.assertIn(want, self.warnings[0])
                masks_of_line = self.lines()[-1].get("masks", {})
                self.assertEqual(list(masks_of_line), ["good"] if "good" in str(masks) else [])
            again = Image(Image(GRAY, masks=masks), masks={"gt": good})
            self.assertIs(Run(self.dir).log({"k": again}), True)

    def test_boxes_may_be_in_any_list_or_iterator(self) -> None:
        box = {"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75}, "class_id": 1}
        for boxes in ([box], (box,), collections.deque([box]), {1: box}.values(), iter([box])):
            line = self.log(GRAY, boxes={"pred": {"box_data": boxes}})
            self.assertEqual(line["boxes"]["pred"]["box_data"], [box])
        self.assertIs(Run(self.dir).log({"k": Image(GRAY, boxes={"pred": itertools.count()})}), False)
        self.assertNotIn("boxes", self.lines()[-1])
        self.assertIn("boxes of k is not logged: ValueError: got an iterator of more", self.warnings[0])

    def test_a_caption_without_end_costs_no_picture(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        self.assertIs(Run(self.dir).log({"k": Image(GRAY, caption=endless, grouping="g")}), False)
        self.assertEqual(self.lines()[-1]["grouping"], "g")
        self.assertIn("caption of k is not logged: RecursionError", self.warnings[0])

    def test_an_array_that_cannot_be_a_picture_is_not_written(self) -> None:
        shapes = [(4,), (), (0, 4), (4, 4, 0), (2, 2, 2, 2, 2)]
        for shape in shapes:
            dump = _dumps.npy("|u1", shape, bytes(math.prod(shape)))
            with self.subTest(shape), mock.patch.object(_image, "dump_from", return_value=dump):
                self.check_refused(GRAY, ValueError, "a picture has 2 to 4 axes")
        self.assertTrue(Run(self.dir).log({"k": Image([[[[[[1, 2]]]]]])}))

    def test_text_that_is_no_unicode(self) -> None:
        self.assertEqual(self.log(GRAY, caption="a\udcffb")["caption"], "a\ufffdb")

    def test_keys_make_safe_names(self) -> None:
        run = Run(self.dir, strict=True)
        keys = ["/abs", "../../up", "a/../b", "..", ".hidden", "n\nl", "é" * 400, "k" * 1024, "a b[*]?:"]
        for key in keys:
            self.assertTrue(run.log({key: Image(GRAY)}, step=(1 << 64) - 1))
        lines = self.lines()
        self.assertEqual([line["key"] for line in lines], keys)
        for line in lines:
            self.assertRegex(line["data"], r"^tensors/[A-Za-z0-9_][A-Za-z0-9_.-]{0,160}\.npy$")
            self.assertTrue(os.path.isfile(self.path(line["data"])))
        self.assertEqual(sorted(os.listdir(self.folder)), ["run"])

    def test_keys_that_are_invalid(self) -> None:
        for key in ("", "a\0b", "k" * 1025):
            with self.assertRaisesRegex(ValueError, "want 1 to 1024 bytes without NUL"):
                Run(self.dir, strict=True).log({key: Image(GRAY)})
        with self.assertRaisesRegex(ValueError, "got key 'kkk', want 1 to 2 bytes without NUL"):
            Run(self.dir, strict=True, limits={"key_bytes_max": 2}).log({"kkk": Image(GRAY)})


class ValueTest(Case):
    def test_odd_values_become_json(self) -> None:
        class Own(int):
            pass

        Color = enum.Enum("Color", "RED")
        for value, want in [
            (1 << 62, 1 << 62),
            (1 << 64, str(1 << 64)),
            (-(10**400), str(-(10**400))),
            (1 << 20000, hex(1 << 20000)),
            (decimal.Decimal("0.5"), 0.5),
            (fractions.Fraction(1, 4), 0.25),
            (Own(3), 3),
            (Color.RED, "Color.RED"),
            (pathlib.Path("/a/b"), "/a/b"),
            (b"caf\xe9", "caf\ufffd"),
            (1 + 2j, "(1+2j)"),
            ({1: {b"k": (1, {2})}}, {"1": {"k": [1, [2]]}}),
            (range(2), "range(0, 2)"),
            (True, True),
        ]:
            self.assertEqual(self.log(GRAY, caption=value)["caption"], want)
        for value, want in [(float("nan"), "nan"), (float("-inf"), "-inf")]:
            self.assertEqual(str(self.log(GRAY, grouping=value)["grouping"]), want)

    @unittest.skipUnless(numpy, "numpy is not installed")
    def test_numbers_of_numpy_become_numbers(self) -> None:
        for value, want in [
            (numpy.float16(0.5), 0.5),
            (numpy.float32(0.25), 0.25),
            (numpy.uint64((1 << 64) - 1), str((1 << 64) - 1)),
            (numpy.bool_(True), True),
            (numpy.array([[1, 2]]), [[1, 2]]),
            (numpy.array(["a", None], object), ["a", None]),
            ({numpy.int64(3): numpy.float64(0.5)}, {"3": 0.5}),
        ]:
            self.assertEqual(self.log(GRAY, caption=value)["caption"], want)
        for step in (numpy.float32(7), numpy.array(7), numpy.uint8(7)):
            run = Run(self.dir, strict=True)
            run.log({"k": Image(GRAY)}, step=step)
            self.assertEqual(self.lines()[-1]["step"], 7)

    @unittest.skipUnless(ml_dtypes, "ml_dtypes is not installed")
    def test_numbers_that_numpy_lacks_become_numbers(self) -> None:
        value = numpy.ones(2, ml_dtypes.bfloat16)
        self.assertEqual(self.log(GRAY, caption=value)["caption"], [1.0, 1.0])
        self.assertEqual(self.log(GRAY, caption=value[0])["caption"], 1.0)

    def test_paths_are_files(self) -> None:
        path = pathlib.Path(self.folder, "a.png")
        path.write_bytes(live.png())
        line = self.log(path, masks={"m": {"path": path}})
        self.assertEqual(self.content(line), live.png())


if __name__ == "__main__":
    unittest.main()
