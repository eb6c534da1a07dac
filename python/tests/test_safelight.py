"""Tests of the module `safelight`. They read back the files that it writes, as bytes and as JSON.

    python3 -m unittest discover python/tests

Needs no other package. The groups for NumPy, torch, Pillow, matplotlib and JAX are skipped if the library
is not installed.
"""

from __future__ import annotations

import array
import collections
import copy
import ctypes
import decimal
import enum
import errno
import fractions
import gc
import glob
import io
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

import live
from case import GRAY, PACKAGE, Case, Npy, in_fork, read_npy
from live import installed

from safelight import Image, Run, _dumps, _files, _image, _media_log

numpy: Any = installed("numpy")
ml_dtypes: Any = installed("ml_dtypes")
torch: Any = installed("torch")
pillow: Any = installed("PIL.Image")
matplotlib: Any = installed("matplotlib")
jax: Any = installed("jax")


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


class RunTest(Case):
    def test_values_that_are_no_images_are_ignored(self) -> None:
        run = Run(self.dir, strict=True)
        image = Image(GRAY)
        data = {
            "loss": 0.5,
            "text": "t",
            "lists": [1, 2, None],
            "array": GRAY,
            "val": {"deep": {"pred": image}, "acc": 1, 7: image},
            "several": [image, None, Image(GRAY, caption="b")],
            "pair": (image,),
        }
        self.assertIs(run.log(data), True)
        got = [(line["key"], line.get("caption")) for line in self.lines()]
        want = ["val/deep/pred", "val/7", "several", "several", "pair"]
        self.assertEqual(got, [(key, "b" if i == 3 else None) for i, key in enumerate(want)])

    def test_steps_count_as_in_wandb(self) -> None:
        run = Run(self.dir, strict=True)
        for arguments, want in [
            ({}, 0),
            ({}, 1),
            ({"commit": False}, 2),
            ({}, 2),
            ({"step": 10}, 10),
            ({"step": 10}, 10),
            ({}, 10),
            ({"step": 20, "commit": True}, 20),
            ({"step": 3}, 3),
            ({}, 21),
            ({"commit": True}, 22),
            ({"step": True}, 1),
        ]:
            run.log({"k": Image(GRAY)}, **arguments)
            self.assertEqual(self.lines()[-1]["step"], want, arguments)
        for step in (-1, 1 << 64, 1.5, "3"):
            with self.assertRaises((ValueError, TypeError)):
                run.log({"k": Image(GRAY)}, step=step)

    def test_steps_count_without_images_and_over_failures(self) -> None:
        run = Run(self.dir)
        run.log({"loss": 1})
        run.log({"k": Image(None)})
        run.log({"k": Image(GRAY)})
        self.assertEqual([line["step"] for line in self.lines()], [2])

    def test_finish(self) -> None:
        with Run(self.dir) as run:
            run.log({"k": Image(GRAY)})
        run.finish()
        self.assertEqual(self.lines()[1:], [{"finish": True}])
        self.assertIs(run.log({"k": Image(GRAY)}), False)
        self.assertIn("the run is finished", self.warnings[0])
        self.assertEqual(len(self.dumps()), 1)

    def test_a_handler_at_exit_may_finish(self) -> None:
        code = (
            "import sys, atexit; sys.path.insert(0, sys.argv[1]); import safelight;"
            "run = safelight.Run(sys.argv[2], strict=True); atexit.register(run.finish);"
            "run.log({'k': safelight.Image([[1]])})"
        )
        subprocess.run([sys.executable, "-c", code, PACKAGE, self.dir], check=True)
        self.assertEqual([list(line)[0] for line in self.lines()], ["key", "finish"])

    def test_a_run_that_fails_is_not_finished(self) -> None:
        with self.assertRaises(ZeroDivisionError), Run(self.dir) as run:
            run.log({"k": Image(GRAY)})
            raise ZeroDivisionError
        self.assertEqual([line["key"] for line in self.lines()], ["k"])

    def test_identity(self) -> None:
        path = self.path("safelight.json")
        Run(self.dir)
        self.assertFalse(os.path.exists(path))
        given = {"id": "7", "project": "p", "name": "n", "group": "g", "job_type": "j", "entity": "e"}
        config = SimpleNamespace(lr=0.1, inf=float("inf"))
        Run(self.dir, tags="one", config=config, **given)
        want = {**given, "tags": ["one"], "config": {"lr": 0.1, "inf": "Infinity"}}
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file), want)
        before = os.stat(path)
        Run(self.dir, id="7", config=config)
        after = os.stat(path)
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))
        Run(self.dir, tags=("two", "three"))
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file), {**want, "tags": ["two", "three"]})
        self.assertEqual(sorted(os.listdir(self.dir)), ["safelight.json", "tensors"])

    def test_update_changes_what_describes_the_run(self) -> None:
        run = Run(self.dir, strict=True, name="n", config={"lr": 0.1, "seed": 3})
        self.assertIs(run.update(name="m", tags="one", config=SimpleNamespace(lr=0.2)), True)
        self.assertIs(run.update(), True)
        with open(self.path("safelight.json"), encoding="utf-8") as file:
            want = {"name": "m", "tags": ["one"], "config": {"lr": 0.2, "seed": 3}}
            self.assertEqual(json.load(file), want)
        with self.assertRaises(TypeError):
            run.update(config=3)
        self.assertIs(Run(self.dir).update(config=3), False)
        self.assertIs(Run(self.dir, limits={"identity_bytes_max": 100}).update(id="i" * 100), False)
        self.assertIn("id of the run is not logged: ValueError: 102 bytes", self.warnings[-1])

    def test_a_file_of_the_run_that_is_no_object_is_replaced(self) -> None:
        os.makedirs(self.dir)
        for content in ("[1]", "{", ""):
            with open(self.path("safelight.json"), "w") as file:
                file.write(content)
            self.assertIs(Run(self.dir, strict=True).update(id="7"), True)
            with open(self.path("safelight.json")) as file:
                self.assertEqual(json.load(file), {"id": "7"})

    def test_other_fields_of_a_line(self) -> None:
        run = Run(self.dir, strict=True)
        extra = {"wandb": {"files": {"image": "media/images/k_0.png"}}}
        self.assertIs(run._log_image("k", 7, Image(GRAY, caption="c"), extra), True)
        self.assertEqual(self.lines()[0]["wandb"], extra["wandb"])
        self.assertEqual((self.lines()[0]["step"], run._step), (7, 0))
        self.assertIs(Run(self.dir)._log_image("k", 7, Image(None), extra), False)

    def test_it_says_what_it_is(self) -> None:
        run = Run(self.dir, rank=3)
        self.assertEqual(repr(run), f"<safelight.Run {self.dir!r}, rank 3, step 0>")
        run.finish()
        self.assertIn(", step 0, finished>", repr(run))
        self.assertEqual(repr(Image(GRAY, caption="c")), "<safelight.Image of shape (2, 3), caption 'c'>")
        self.assertEqual(repr(Image(live.png())), f"<safelight.Image of {len(live.png())} bytes>")
        self.assertRegex(repr(Image(3)), "^<safelight.Image that failed: TypeError: got a builtins.int")

    def test_the_directory_stays_where_it_was(self) -> None:
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)
        run = Run("run", strict=True)
        os.chdir(before)
        run.log({"k": Image(GRAY)})
        self.assertEqual(len(self.lines()), 1)

    def test_rank(self) -> None:
        for environment, rank, want in [
            ({}, None, 0),
            ({"SLURM_PROCID": "3"}, None, 3),
            ({"LOCAL_RANK": "1", "SLURM_PROCID": "5"}, None, 1),
            ({"RANK": "4", "LOCAL_RANK": "1"}, None, 4),
            ({"RANK": "none"}, None, 0),
            ({"OMPI_COMM_WORLD_RANK": "6", "LOCAL_RANK": "1"}, None, 6),
            ({"LOCAL_RANK": "1", "NODE_RANK": "2", "LOCAL_WORLD_SIZE": "8"}, None, 17),
            ({"LOCAL_RANK": "1", "NODE_RANK": "2"}, None, 2001),
            ({"RANK": "4"}, 2, 2),
        ]:
            with mock.patch.dict(os.environ, environment, clear=True):
                run = Run(self.dir, rank=rank)
            self.assertEqual(run.rank, want, environment)
            run.log({"k": Image(GRAY)})
            self.assertTrue(any(f"/rank{want}-" in path for path in self.logs()))
        for rank in (-1, 1 << 32):
            with self.assertRaisesRegex(ValueError, "got rank"):
                Run(self.dir, rank=rank)


class SearchTest(Case):
    """Images in whatever holds them, and what is passed over."""

    def keys(self) -> list[str]:
        return [line["key"] for line in self.lines()]

    def test_images_in_any_iterable_are_logged(self) -> None:
        class Own:
            def __iter__(self) -> Any:
                return iter([Image(GRAY), Image(GRAY)])

        values = {
            "generator": (Image(GRAY) for _ in range(2)),
            "map": map(Image, [GRAY, GRAY]),
            "set": {Image(GRAY), Image(GRAY)},
            "frozenset": frozenset([Image(GRAY), Image(GRAY)]),
            "nested": [[Image(GRAY)], ([Image(GRAY)],)],
            "values": {"a": Image(GRAY), "b": Image(GRAY)}.values(),
            "own": Own(),
            "deque": collections.deque([Image(GRAY), Image(GRAY)]),
            "dicts": [{"a": Image(GRAY)}, {"a": Image(GRAY)}],
            "generator of lists": ([Image(GRAY)] for _ in range(2)),
        }
        run = Run(self.dir, strict=True)
        self.assertIs(run.log(values), True)
        want = [key for key in values for _ in range(2)]
        self.assertEqual(self.keys(), [key if key != "dicts" else "dicts/a" for key in want])
        self.assertEqual(self.warnings, [])

    @unittest.skipUnless(numpy, "numpy is not installed")
    def test_images_in_arrays_of_objects_are_logged(self) -> None:
        values = numpy.empty((2, 2), object)
        values[0, 1], values[1, 0] = Image(GRAY), Image(GRAY)
        self.assertIs(Run(self.dir, strict=True).log({"k": values}), True)
        self.assertEqual(self.keys(), ["k", "k"])

    def test_numbers_and_texts_are_ignored_without_a_word(self) -> None:
        run = Run(self.dir, strict=True)
        values = [
            1.5,
            "text",
            b"bytes",
            None,
            [1, 2],
            [[1, 2], [3]],
            (),
            range(3),
            {},
            fractions.Fraction(1, 2),
        ]
        self.assertIs(run.log({str(i): value for i, value in enumerate(values)}), True)
        self.assertEqual((self.warnings, self.logs()), ([], []))

    def test_what_is_passed_over_is_reported_once_with_its_type(self) -> None:
        run = Run(self.dir, strict=True)
        for _ in range(2):
            self.assertIs(
                run.log({"k": [Image(GRAY), 7], "object": object(), "count": itertools.count()}), True
            )
        want = [
            "k is passed over: TypeError: got a builtins.int, want an Image of it (reported once)",
            "object is passed over: TypeError: got a builtins.object, want an Image of it (reported once)",
            "count is passed over: TypeError: got a itertools.count, want an Image of it (reported once)",
        ]
        self.assertEqual(self.warnings, want)
        self.assertEqual(self.keys(), ["k", "k"])

    def test_a_picture_without_an_image_is_a_failure(self) -> None:
        picture = SimpleNamespace(shape=(4, 3), dtype="f4")
        values = picture, [picture], SimpleNamespace(savefig=print), iter([picture]), [Image(GRAY), picture]
        for value in values:
            with self.assertRaisesRegex(TypeError, "got a types.SimpleNamespace, want an Image of it"):
                Run(self.dir, strict=True).log({"k": value})
        run = Run(self.dir)
        self.assertIs(run.log({"k": picture, "good": Image(GRAY)}), False)
        self.assertEqual(self.keys(), ["k", "good"])
        self.assertIs(run.log({"scalar": SimpleNamespace(shape=(), dtype="f4")}), True)

    def test_a_value_that_fails_costs_no_other(self) -> None:
        def failing() -> Any:
            yield Image(GRAY)
            raise RuntimeError("no more")

        endless = itertools.repeat(None)
        loop: list[Any] = []
        loop.append(loop)
        run = Run(self.dir)
        self.assertIs(run.log({"a": failing(), "b": endless, "c": loop, "d": Image(GRAY)}), False)
        self.assertEqual(self.keys(), ["a", "d"])
        self.assertEqual(len(self.warnings), 3, self.warnings)
        for warning, want in zip(self.warnings, ["no more", "more than 65536 values", "contains itself"]):
            self.assertIn(want, warning)

    def test_keys_that_are_no_text(self) -> None:
        data: Any = {1: Image(GRAY), 2.5: Image(GRAY), None: Image(GRAY), b"b": Image(GRAY)}
        data[("a", 1)] = {0: Image(GRAY)}
        self.assertIs(Run(self.dir, strict=True).log(data), True)
        self.assertEqual(self.keys(), ["1", "2.5", "None", "b", "('a', 1)/0"])

    def test_steps_of_other_types(self) -> None:
        run = Run(self.dir, strict=True)
        steps = [4096.0, fractions.Fraction(8), SimpleNamespace(__index__=None)]
        steps[2] = type("Index", (), {"__index__": lambda _: 9})()
        for step in steps:
            run.log({"k": Image(GRAY)}, step=step)
        self.assertEqual([line["step"] for line in self.lines()], [4096, 8, 9])
        for bad in (float("nan"), float("inf"), 1e300, 2.5, b"1", [], 1j):
            with self.assertRaises((TypeError, ValueError)):
                run.log({"k": Image(GRAY)}, step=bad)


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


class FailureTest(Case):
    def test_each_kind_is_reported_once(self) -> None:
        run = Run(self.dir)
        for _ in range(3):
            self.assertIs(run.log({"a": Image(None), "b": Image(GRAY), "c": Image("/none.png")}), False)
        self.assertEqual(len(self.warnings), 2, self.warnings)
        self.assertIn("a is not logged: TypeError: got a builtins.NoneType", self.warnings[0])
        self.assertEqual([line["key"] for line in self.lines()], ["b"] * 3)

    def test_kinds_are_reported_up_to_a_bound(self) -> None:
        run = Run(self.dir)
        for i in range(300):
            run.log({"k": Image(b"%d" % i)})
        self.assertEqual(len(self.warnings), 100)

    def test_nothing_is_raised(self) -> None:
        class Wicked:
            def __getattr__(self, name: str) -> Any:
                raise RuntimeError(f"no {name}")

            def __bool__(self) -> bool:
                raise RuntimeError("no bool")

            __str__ = __repr__ = __bool__  # type: ignore[assignment]

        cycle: dict[str, Any] = {}
        cycle["cycle"] = cycle
        run = Run(self.dir)
        for data in (None, 3, [Image(GRAY)], {"k": Image(Wicked())}, cycle, {Wicked(): 1}):
            self.assertIs(run.log(data), False)  # type: ignore[arg-type]
        for name in "mode caption grouping classes boxes masks file_type range grid profile".split():
            self.assertIs(run.log({"k": Image(GRAY, **{name: Wicked()})}), False, name)
            self.assertIs(run.log({"k": Image(GRAY, **{name: cycle})}), False, name)
        self.assertIs(run.log({"k": Image(GRAY)}, step="x"), False)  # type: ignore[arg-type]
        # Some pictures were written, without the value.
        for line in self.lines():
            self.assertEqual(list(line), ["key", "step", "data", "time"])
        self.assertEqual(len(self.dumps()), len(self.lines()))

    def test_a_directory_that_cannot_be_created(self) -> None:
        with open(self.dir, "w"):
            pass
        with self.assertRaises(OSError):
            Run(self.dir, strict=True)
        run = Run(self.dir, id="7")
        self.assertIn("the run is not logged: NotADirectoryError", self.warnings[0])
        self.assertIs(run.log({"k": Image(GRAY)}), False)
        run.finish()

    def test_an_interrupt_is_passed_on(self) -> None:
        run = Run(self.dir)
        with mock.patch("os.replace", side_effect=KeyboardInterrupt), self.assertRaises(KeyboardInterrupt):
            run.log({"k": Image(GRAY)})
        with mock.patch.object(_image, "dump_from", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, Image, GRAY)
        self.assertEqual((self.logs(), self.dumps()), ([], []))

    def test_a_full_disk_takes_no_dump(self) -> None:
        run = Run(self.dir)
        large = Image([[0] * 1000])
        with_mask = Image(GRAY, masks={"gt": {"mask_data": [[0] * 1000]}})
        self.limit_files(4096)
        self.assertIs(run.log({"large": large, "mask": with_mask, "small": Image(GRAY)}), False)
        self.assertEqual([line["key"] for line in self.lines()], ["small"])
        self.assertEqual(self.dumps(), [os.path.basename(self.lines()[0]["data"])])
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("File too large", self.warnings[0])

    def test_a_line_cut_short_costs_no_other(self) -> None:
        run = Run(self.dir)
        image = Image(GRAY, caption="c" * 500)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        self.limit_files(4096)
        written = [run.log({"k": image}) for _ in range(10)]
        self.assertEqual(written, sorted(written, reverse=True))
        n_whole = sum(written)
        self.assertLess(n_whole, 10)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        self.assertTrue(run.log({"after": image}))
        run.finish()
        with open(self.logs()[0]) as file:
            lines = file.read().split("\n")[1:]
        torn = lines.pop(n_whole)
        self.assertTrue(torn.startswith('{"key":"k"') and not torn.endswith("}"), torn)
        keys = [json.loads(line).get("key") for line in lines if line]
        self.assertEqual(keys, ["k"] * n_whole + ["after", None])
        self.assertEqual(len(self.dumps()), n_whole + 1)


def log_many(directory: str, name: str, n: int) -> None:
    run = Run(directory, strict=True)
    for i in range(n):
        run.log({name: Image([[i]])})


def log_sent(run: Run) -> None:
    """Checks that a run is as it was in the process that sent it, and logs an image."""
    assert (run.rank, run.strict, run._limits["batch_max"]) == (2, True, 8), run
    run.log({"sent": Image([[0]])})


class SessionTest(Case):
    """The first line of each log: which attempt of the job, which rank."""

    def session(self, environment: dict[str, str], **options: Any) -> str:
        with mock.patch.dict(os.environ, environment, clear=True):
            run = Run(tempfile.mkdtemp(dir=self.folder), strict=True, **options)
            run.log({"k": Image(GRAY)})
        with open(glob.glob(os.path.join(run.dir, "*.media.jsonl"))[0]) as file:
            first = json.loads(file.readline())
        self.assertEqual(first, {"session": run.session, "rank": run.rank})
        session: str = first["session"]
        return session

    def test_the_launcher_says_it(self) -> None:
        elastic = {"TORCHELASTIC_RUN_ID": "job", "TORCHELASTIC_RESTART_COUNT": "2", "RANK": "3"}
        slurm = {"SLURM_JOB_ID": "71", "SLURM_STEP_ID": "0", "SLURM_PROCID": "4"}
        for environment, options, want in [
            (elastic, {}, "torchelastic-job-2"),
            (slurm, {}, "slurm-71-0-0"),
            ({**slurm, "SLURM_RESTART_COUNT": "1"}, {}, "slurm-71-0-1"),
            ({**slurm, **elastic}, {}, "torchelastic-job-2"),
            ({"PMIX_NAMESPACE": "n@1"}, {}, "mpi-n@1"),
            ({**elastic, "SAFELIGHT_SESSION": "mine"}, {}, "mine"),
            ({"SAFELIGHT_SESSION": "mine"}, {"session": "é, given"}, "é, given"),
            ({"SAFELIGHT_SESSION": "é" * 300}, {}, "é" * 128),
        ]:
            self.assertEqual(self.session(environment, **options), want)
        for session in ("", 7, "é" * 129):
            with self.assertRaisesRegex(ValueError, "got session"):
                Run(self.dir, session=session)  # type: ignore[arg-type]

    def test_a_launch_without_an_id_is_its_agent(self) -> None:
        none = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"}
        session = self.session(none)
        self.assertRegex(session, rf"^torchelastic-.+-{os.getppid()}-\d+-0$")
        self.assertEqual(self.session(none), session)
        self.assertNotEqual(self.session({**none, "TORCHELASTIC_RESTART_COUNT": "1"}), session)

    def test_a_step_of_slurm_is_needed(self) -> None:
        self.assertEqual(self.session({"SLURM_JOB_ID": "7"}), self.session({}))

    def run_processes(self, code: str, n: int, at_once: bool) -> None:
        start = "import sys, time; sys.path.insert(0, sys.argv[1]); import safelight;"
        start += "run = safelight.Run(sys.argv[2], strict=True);"
        environment = {name: value for name, value in os.environ.items() if "SLURM" not in name}
        processes = []
        for _ in range(n):
            command = [sys.executable, "-c", start + code, PACKAGE, self.dir]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            processes.append(process)
            assert process.stdout is not None
            if at_once:
                process.stdout.read(1)
            else:
                process.communicate()
        for process in processes:
            if at_once:
                process.communicate()
            self.assertEqual(process.returncode, 0)

    CODE = "run.log({'k': safelight.Image([[1]])}); print('x', end='', flush=True); sys.stdin.read()"

    def test_processes_one_after_another_are_attempts(self) -> None:
        self.run_processes(self.CODE, 3, at_once=False)
        sessions = [header["session"] for header in self.headers()]
        self.assertEqual((len(set(sessions)), len(self.logs())), (3, 3))
        self.assertEqual([line["key"] for line in self.lines()], ["k"] * 3)

    def test_processes_at_the_same_time_are_one_attempt(self) -> None:
        self.run_processes(self.CODE, 3, at_once=True)
        sessions = [header["session"] for header in self.headers()]
        self.assertEqual((len(set(sessions)), len(sessions)), (1, 3))

    def test_forks_and_children_of_multiprocessing_are_one_attempt(self) -> None:
        run = Run(self.dir, strict=True)
        self.assertEqual(in_fork(lambda: run.log({"fork": Image(GRAY)})), 0)
        run.log({"parent": Image(GRAY)})
        self.assertEqual(in_fork(lambda: log_many(self.dir, "new", 1)), 0)
        spawn = multiprocessing.get_context("spawn")
        child = spawn.Process(target=log_many, args=(os.path.join(self.folder, "other"), "spawned", 1))
        child.start()
        child.join()
        self.assertEqual(child.exitcode, 0)
        with open(glob.glob(os.path.join(self.folder, "other", "*.media.jsonl"))[0]) as file:
            spawned = json.loads(file.readline())
        sessions = {header["session"] for header in [*self.headers(), spawned]}
        self.assertEqual(len(sessions), 1)

    def test_a_log_of_another_host_that_changes_has_a_writer(self) -> None:
        os.makedirs(self.dir)
        name = self.path("rank0-other.host-0.media.jsonl")
        with open(name, "w") as file:
            file.write('{"session":"theirs","rank":0}\n{"key":"k"}\n')
        run = Run(self.dir, strict=True)
        run.log({"k": Image(GRAY)})
        self.assertEqual(run.session, "theirs")
        os.utime(name, (1, 1))
        run = Run(self.dir, strict=True, rank=1)
        run.log({"k": Image(GRAY)})
        self.assertNotEqual(run.session, "theirs")
        shutil.rmtree(self.dir)

    def test_a_log_of_another_session_is_left_alone(self) -> None:
        for session in ("a", "b", "a"):
            run = Run(self.dir, strict=True, session=session)
            run.log({session: Image(GRAY)})
            run._close()
        self.assertEqual([header["session"] for header in self.headers()], ["a", "b"])
        self.assertEqual([line["key"] for line in self.lines()], ["a", "a", "b"])

    def test_a_header_cut_short_is_written_again(self) -> None:
        for n_bytes in (5, 30):
            run = Run(os.path.join(self.dir, str(n_bytes)), session="s" * 20)
            image = Image([[1]])
            write = os.writev

            def cut(fd: int, parts: Any, n_bytes: int = n_bytes) -> int:
                if b"session" in bytes(parts[0]):
                    write(fd, [bytes(parts[0])[:n_bytes]])
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(fd, parts)

            with mock.patch("os.writev", cut):
                self.assertIs(run.log({"k": image}), False)
            self.assertIs(run.log({"k": image}), True)
            with open(glob.glob(os.path.join(run.dir, "*.media.jsonl"))[0]) as file:
                lines = [json.loads(line) for line in file]
            self.assertEqual([list(line)[0] for line in lines], ["session", "key"])


class SharingTest(Case):
    def check_many(self, names: dict[str, int]) -> None:
        """Checks that each line is complete, and that each dump exists once and holds its line's number."""
        lines = [line for line in self.lines() if "key" in line]
        for name, n in names.items():
            of_name = [line for line in lines if line["key"] == name]
            self.assertEqual(len(of_name), n, name)
            values = [struct.unpack("<q", read_npy(self.path(line["data"])).elements)[0] for line in of_name]
            self.assertEqual(values, list(range(n)), name)
        self.assertEqual(sorted(os.path.basename(line["data"]) for line in lines), self.dumps())

    def test_threads(self) -> None:
        run = Run(self.dir, strict=True)

        def work(name: str) -> None:
            for i in range(200):
                run.log({name: Image([[i]])}, step=i)

        threads = [threading.Thread(target=work, args=(f"thread{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.check_many({f"thread{i}": 200 for i in range(8)})
        self.assertEqual(len(self.logs()), 1)

    def test_threads_count_steps_together(self) -> None:
        run = Run(self.dir, strict=True)
        threads = [
            threading.Thread(target=lambda: [run.log({"k": Image(GRAY)}) for _ in range(50)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(line["step"] for line in self.lines()), list(range(400)))

    def test_a_fork_logs_on_in_a_log_of_its_own(self) -> None:
        run = Run(self.dir, strict=True)
        run.log({"parent": Image([[0]])})
        self.assertEqual(in_fork(lambda: run.log({"child": Image([[0]])})), 0)
        run.log({"parent": Image([[1]])})
        self.assertEqual(in_fork(lambda: run.log({"second": Image([[0]])})), 0)
        self.check_many({"parent": 2, "child": 1, "second": 1})
        # The second child reuses the log of the first, which is free again.
        self.assertEqual(len(self.logs()), 2)
        steps = [line["step"] for line in self.lines() if line["key"] == "child"]
        self.assertEqual(steps, [1])

    def test_a_fork_while_another_thread_holds_the_lock(self) -> None:
        run = Run(self.dir, strict=True)
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with run._lock, run._log._turn:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(done.set)
        held.wait()
        self.assertEqual(in_fork(lambda: (signal.alarm(20), run.log({"child": Image([[0]])}))), 0)
        self.check_many({"child": 1})

    def test_a_run_is_forgotten_by_forks(self) -> None:
        Run(self.dir)
        self.assertEqual(in_fork(lambda: None), 0)

    def test_a_run_may_be_sent_to_another_process(self) -> None:
        for method in ("spawn", "forkserver"):
            shutil.rmtree(self.dir, ignore_errors=True)
            context = multiprocessing.get_context(method)
            run = Run(self.dir, strict=True, rank=2, limits={"batch_max": 8})
            run.log({"parent": Image([[0]])})
            child = context.Process(target=log_sent, args=(run,))
            child.start()
            child.join()
            self.assertEqual(child.exitcode, 0)
            self.check_many({"parent": 1, "sent": 1})
            headers = self.headers()
            self.assertEqual((len(headers), headers[0]), (2, headers[1]))
            self.assertEqual([line["step"] for line in self.lines() if line["key"] == "sent"], [1])

    def test_a_copy_is_another_writer_of_the_same_session(self) -> None:
        run = Run(self.dir, strict=True)
        for other in (copy.copy(run), copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
            other.log({"k": Image([[0]])})
            self.assertEqual((other.session, other.dir), (run.session, run.dir))
        self.assertEqual([line["step"] for line in self.lines()], [0, 0, 0])
        run.finish()
        self.assertIs(pickle.loads(pickle.dumps(run))._is_finished, True)

    def test_many_processes(self) -> None:
        code = (
            "import sys; sys.path[:0] = sys.argv[1:3]; import test_safelight;"
            "test_safelight.log_many(sys.argv[3], sys.argv[4], 50)"
        )
        tests = os.path.dirname(os.path.abspath(__file__))
        processes = [
            subprocess.Popen([sys.executable, "-c", code, PACKAGE, tests, self.dir, f"process{i}"])
            for i in range(12)
        ]
        self.assertEqual([process.wait() for process in processes], [0] * 12)
        self.check_many({f"process{i}": 50 for i in range(12)})
        self.assertLessEqual(len(self.logs()), 12)

    def test_a_restart_reuses_a_log_that_is_free(self) -> None:
        for _ in range(5):
            self.assertEqual(in_fork(lambda: log_many(self.dir, "k", 1)), 0)
        self.assertEqual(len(self.logs()), 1)
        self.assertEqual(len(self.lines()), 5)

    def test_two_runs_of_one_process_have_two_logs(self) -> None:
        runs = [Run(self.dir, strict=True) for _ in range(2)]
        for run in runs:
            run.log({"k": Image(GRAY)})
        self.assertEqual(len(self.logs()), 2)

    def test_a_line_that_a_killed_writer_left_costs_no_other(self) -> None:
        log_many(self.dir, "k", 1)
        with open(self.logs()[0], "a") as file:
            file.write('{"key":"k","st')
        log_many(self.dir, "after", 1)
        with open(self.logs()[0]) as file:
            lines = file.read().split("\n")[1:]
        self.assertEqual(lines[1], '{"key":"k","st')
        self.assertEqual(json.loads(lines[2])["key"], "after")

    def test_more_writers_than_numbers(self) -> None:
        with mock.patch.object(_media_log, "_LOGS_MAX", 1):
            runs = [Run(self.dir, strict=True) for _ in range(3)]
            for run in runs:
                run.log({"k": Image(GRAY)})
        self.assertEqual(len(self.logs()), 3)

    def test_a_file_system_without_locks(self) -> None:
        with mock.patch("fcntl.flock", side_effect=OSError(38, "Function not implemented")):
            for _ in range(2):
                log_many(self.dir, "k", 1)
        self.assertEqual([os.path.getsize(path) > 0 for path in self.logs()], [False, True, True])

    def test_a_signal_may_log_while_its_thread_does(self) -> None:
        run = Run(self.dir, strict=True)
        is_on = True

        def log(*_: Any) -> None:
            run.log({"signal": Image([[0]])})
            # Only now: on a busy machine, signals at fixed times would nest until Python's limit of recursion.
            if is_on:
                signal.setitimer(signal.ITIMER_REAL, 0.001)

        handler = signal.signal(signal.SIGALRM, log)
        self.addCleanup(signal.signal, signal.SIGALRM, handler)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        for i in range(300):
            run.log({"k": Image([[i]])})
        is_on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        keys = [line["key"] for line in self.lines()]
        self.assertEqual(keys.count("k"), 300)
        self.assertGreater(keys.count("signal"), 0)


@unittest.skipUnless(numpy, "numpy is not installed")
class NumpyTest(Case):
    def check(self, values: Any) -> None:
        line = self.log(values)
        self.assertEqual(list(line), ["data"])
        loaded = numpy.load(self.path(line["data"]), allow_pickle=False)
        self.assertEqual((loaded.dtype, loaded.shape), (values.dtype, values.shape))
        self.assertEqual(loaded.tobytes(), values.tobytes())
        self.assertTrue(loaded.flags.c_contiguous)

    def test_types(self) -> None:
        values = numpy.arange(24).reshape(2, 4, 3)
        for dtype in "? u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 c8 c16 >u2 >i8 >f4 >c16".split():
            self.check(values.astype(dtype))

    def test_shapes_and_strides(self) -> None:
        values = numpy.arange(120, dtype="f4").reshape(2, 4, 5, 3)
        for view in [values[:0], values[0, 0, 0], values[0, 0, 0, 0], values[0, 0, 0, 0].reshape(())]:
            self.check_refused(view, ValueError, "a picture has 2 to 4 axes")
        for view in [
            values.transpose(0, 3, 1, 2),
            values[0, ::-1, ::2],
            values[..., 1],
            numpy.asfortranarray(values[0]),
            numpy.broadcast_to(values[0, 0], (4, 5, 3)),
        ]:
            self.check(view)

    def test_bytes_are_those_of_numpy(self) -> None:
        values = numpy.ones((3, 4), "f4")
        file = io.BytesIO()
        numpy.save(file, values)
        self.assertEqual(self.content(self.log(values)), file.getvalue())

    def test_a_copy_is_taken(self) -> None:
        values = numpy.zeros((2, 2), "u1")
        image = Image(values)
        values[:] = 9
        Run(self.dir, strict=True).log({"k": image})
        self.assertEqual(read_npy(self.path(self.lines()[0]["data"])).elements, b"\0" * 4)

    def test_types_that_make_no_picture(self) -> None:
        for values in (
            numpy.array(["a"]),
            numpy.array([None]),
            numpy.zeros(2, "M8[s]"),
            numpy.zeros(2, "i4,f4"),
        ):
            self.check_refused(values, TypeError, f"got elements of type {values.dtype}, want")
        if numpy.dtype("longdouble").itemsize > 8:
            self.check_refused(numpy.zeros((2, 2), "longdouble"), TypeError, "up to 64 bits")

    def test_objects_that_convert_to_an_array(self) -> None:
        values = numpy.arange(6, dtype="i2").reshape(2, 3)
        interface = SimpleNamespace(__array_interface__=values.__array_interface__)
        tensor = SimpleNamespace(numpy=lambda: values)
        on_gpu = SimpleNamespace(__cuda_array_interface__={}, get=lambda: values)
        array_like = type("ArrayLike", (), {"__array__": lambda *_, **__: values})()
        for data in (interface, tensor, on_gpu, array_like):
            self.assertEqual(self.npy(data), Npy("<i2", (2, 3), values.tobytes()))

    def test_scalars_in_options(self) -> None:
        place = {"middle": numpy.array([1, 2]), "width": numpy.float32(1), "height": 1}
        line = self.log(
            numpy.zeros((2, 2), "u1"),
            caption=numpy.str_("c"),
            grouping=numpy.int64(3),
            range=numpy.array([0, 0.5]),
            boxes={"p": {"box_data": numpy.array([{"position": place, "class_id": numpy.int32(1)}], object)}},
        )
        self.assertEqual((line["caption"], line["grouping"], line["range"]), ("c", 3, [0.0, 0.5]))
        plain = {"middle": [1, 2], "width": 1.0, "height": 1}
        self.assertEqual(line["boxes"], {"p": {"box_data": [{"position": plain, "class_id": 1}]}})
        run = Run(self.dir, strict=True)
        run.log({"k": Image(GRAY)}, step=numpy.int64(7))
        self.assertEqual(run._step, 7)

    def test_an_array_that_is_ours_is_not_copied(self) -> None:
        for dtype in ("u1", "f2", "c16", "?"):
            values = numpy.ones((3, 4, 2), dtype)
            dump = _dumps._dump_from_ndarray(values, is_ours=True)
            self.assertEqual(bytes(dump.parts[1]), values.tobytes())
            values[:] = 0
            self.assertEqual(bytes(dump.parts[1]), values.tobytes())
            turned = values.T.copy().T
            self.assertEqual(
                bytes(_dumps._dump_from_ndarray(turned, is_ours=True).parts[1]), turned.tobytes()
            )

    @unittest.skipUnless(ml_dtypes, "ml_dtypes is not installed")
    def test_types_that_numpy_cannot_name(self) -> None:
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            values = numpy.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, name))
            data = self.log(values)["data"]
            self.assertTrue(data["path"].endswith(".bin"))
            self.assertEqual(self.content({"data": data.pop("path")}), values.tobytes())
            self.assertEqual(data, {"dtype": name, "shape": [2, 3], "byte_order": "little"})
            line = self.log(GRAY, masks={"m": {"mask_data": values}})
            self.assertEqual(line["masks"]["m"]["mask_data"]["dtype"], name)

    @unittest.skipUnless(ml_dtypes, "ml_dtypes is not installed")
    def test_types_of_half_a_byte_make_no_picture(self) -> None:
        self.check_refused(numpy.zeros((2, 2), ml_dtypes.int4), TypeError, "got elements of type int4")


@unittest.skipUnless(numpy, "numpy is not installed")
class UnnamedTest(Case):
    """Large arrays, which are copied into an unnamed file in the run directory."""

    def large(self, n: int = 0) -> Any:
        return numpy.arange(n, n + (1 << 18), dtype="f4").reshape(512, 512)

    def check(self, values: Any, line: dict[str, Any]) -> None:
        self.assertEqual(self.content(line)[128:], values.tobytes())

    def test_it_has_no_name_before_it_is_logged_and_holds_the_first_values(self) -> None:
        run = Run(self.dir, strict=True)
        values = self.large()
        image, other = Image(values), Image(values)
        self.assertIsNotNone(image._dump.file)
        want = values.copy()
        values[:] = 0
        self.assertEqual(self.dumps(), [])
        run.log({"k": image})
        del other
        self.check(want, self.lines()[0])
        self.assertEqual(len(self.dumps()), 1)
        self.assertEqual(read_npy(self.path(self.lines()[0]["data"])).shape, (512, 512))

    def test_logged_again_it_is_another_file(self) -> None:
        run = Run(self.dir, strict=True)
        image = Image(self.large())
        run.log({"a": image, "b": Image(image)})
        for name in self.dumps():
            os.unlink(self.path("tensors", name))
        run.log({"c": image})
        again = Run(os.path.join(self.folder, "other"), strict=True)
        again.log({"d": image})
        self.assertEqual(len(self.dumps()), 1)
        self.check(self.large(), self.lines()[2])

    def test_in_another_run_on_another_disk_or_after_its_folder_is_gone(self) -> None:
        for what in ("a disk", "a folder"):
            other = Run(os.path.join(self.folder, what), strict=True)
            image = Image(self.large())
            shutil.rmtree(other.dir)
            run = Run(self.dir, strict=True)
            refused = OSError(errno.EXDEV, "Invalid cross-device link")
            with mock.patch("os.link", side_effect=refused if what == "a disk" else os.link):
                run.log({"k": image})
            self.check(self.large(), self.lines()[-1])

    def test_their_number_is_limited(self) -> None:
        run = Run(self.dir, strict=True)
        # Frees what the mocks of other tests still hold.
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        images = [Image(self.large(n)) for n in range(_files.UNNAMED_MAX + 3)]
        self.assertEqual(sum(image._dump.file is not None for image in images), _files.UNNAMED_MAX)
        run.log({"k": images})
        for n, line in enumerate(self.lines()):
            self.check(self.large(n), line)
        del images
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)
        self.assertEqual(_files.unnamed, set())

    def test_a_file_system_without_unnamed_files(self) -> None:
        run = Run(self.dir, strict=True)
        open_ = os.open

        def refuse(path: Any, flags: int, *rest: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "Operation not supported")
            return open_(path, flags, *rest)

        with mock.patch("os.open", refuse):
            values = self.large()
            image = Image(values)
            values[:] = 0
        self.assertIsNone(image._dump.file)
        run.log({"k": image})
        self.check(self.large(), self.lines()[0])

    def test_a_full_disk(self) -> None:
        run = Run(self.dir)
        early = Image(self.large())
        self.limit_files(1 << 16)
        self.assertIs(run.log({"late": Image(self.large()), "small": Image(GRAY), "early": early}), False)
        self.assertEqual([line["key"] for line in self.lines()], ["small", "early"])
        self.assertEqual(len(self.dumps()), 2)
        self.assertIn("late is not logged: OSError", self.warnings[0])
        self.assertEqual(len(self.warnings), 1)

    def test_a_fork_a_copy_and_another_process(self) -> None:
        run = Run(self.dir, strict=True)
        image = Image(self.large())
        self.assertEqual(in_fork(lambda: run.log({"child": image})), 0)
        run.log({"copy": copy.deepcopy(image), "sent": pickle.loads(pickle.dumps(image)), "parent": image})
        self.assertEqual(len(self.lines()), 4)
        for line in self.lines():
            self.check(self.large(), line)

    def test_a_descriptor_that_somebody_else_closed_is_not_used(self) -> None:
        run = Run(self.dir)
        image, closed = Image(self.large()), Image(self.large())
        assert image._dump.file is not None and closed._dump.file is not None
        os.close(closed._dump.file._fd)
        fd = image._dump.file._fd
        foreign = os.path.join(self.folder, "foreign")
        with open(foreign, "wb") as file:
            file.write(bytes(100))
            os.dup2(file.fileno(), fd)
        self.assertIs(run.log({"k": [image, closed]}), False)
        self.assertEqual((self.lines(), self.dumps()), ([], []))
        self.assertEqual(len(self.warnings), 2)
        self.assertEqual(os.stat(foreign).st_nlink, 1)


@unittest.skipUnless(torch, "torch is not installed")
class TorchTest(Case):
    def test_formats(self) -> None:
        for shape, want in [
            ((4, 5), "HW"),
            ((3, 4, 5), "CHW"),
            ((1, 4, 5), "CHW"),
            ((2, 3, 4, 5), "NCHW"),
            ((40, 50, 3), None),
            ((16, 28, 28), None),
            ((2, 40, 50, 3), None),
        ]:
            self.assertEqual(self.log(torch.zeros(shape)).get("format"), want, shape)
        self.assertEqual(self.log(torch.zeros(3, 4, 5), format="HWC")["format"], "HWC")

    def test_types(self) -> None:
        values = torch.arange(24).reshape(2, 3, 4)
        for name, descr in [
            ("bool", "|b1"), ("uint8", "|u1"), ("int8", "|i1"), ("int16", "<i2"), ("int32", "<i4"),
            ("int64", "<i8"), ("float16", "<f2"), ("float32", "<f4"), ("float64", "<f8"),
            ("complex64", "<c8"),
        ]:  # fmt: skip
            tensor = values.to(getattr(torch, name))
            got = read_npy(self.path(self.log(tensor)["data"]))
            self.assertEqual(got, Npy(descr, (2, 3, 4), tensor.numpy().tobytes()))

    def test_types_that_numpy_cannot_name(self) -> None:
        values = torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1)
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            if not hasattr(torch, name):
                continue
            tensor = values.to(torch.float32).to(getattr(torch, name))
            line = self.log(tensor)
            content = self.content({"data": line["data"].pop("path")})
            self.assertEqual(line["data"], {"dtype": name, "shape": [4, 2, 3], "byte_order": "little"})
            self.assertEqual(line["format"], "CHW")
            size = tensor.element_size()
            bits = torch.frombuffer(bytearray(content), dtype=torch.uint8 if size == 1 else torch.int16)
            self.assertTrue(torch.equal(bits.view(tensor.dtype).reshape(4, 2, 3).float(), tensor.float()))

    def test_gradients_strides_and_copies(self) -> None:
        tensor = torch.arange(24.0).reshape(2, 3, 4).requires_grad_()
        image = Image((tensor * 1).permute(2, 0, 1))
        parameter = Image(torch.nn.Parameter(tensor.detach()))
        bfloat = torch.zeros(2, 2, dtype=torch.bfloat16)
        snapshot = Image(bfloat)
        with torch.no_grad():
            want = tensor.permute(2, 0, 1).contiguous().numpy().tobytes()
            tensor.fill_(9)
            bfloat.fill_(9)
        Run(self.dir, strict=True).log({"a": image, "b": parameter, "c": snapshot})
        line, _, last = self.lines()
        self.assertEqual(read_npy(self.path(line["data"])), Npy("<f4", (4, 2, 3), want))
        self.assertEqual(self.content({"data": last["data"]["path"]}), bytes(8))

    def test_views_that_are_conjugated_or_negated(self) -> None:
        values = torch.tensor([[1 + 2j, 3 - 4j]], dtype=torch.complex64)
        for view in (values.conj(), values.conj().imag, torch._neg_view(values.real)):
            got = read_npy(self.path(self.log(view)["data"]))
            self.assertEqual(got.elements, view.clone().resolve_conj().resolve_neg().numpy().tobytes())

    def test_options_and_masks(self) -> None:
        place = {"middle": torch.tensor([1.0, 2.0]), "width": torch.tensor(1), "height": 1}
        line = self.log(
            torch.zeros(3, 2, 2),
            grouping=torch.tensor(3),
            boxes={"p": {"box_data": [{"position": place}]}},
            masks={"m": {"mask_data": torch.ones(2, 2, dtype=torch.int64)}},
        )
        self.assertEqual(line["grouping"], 3)
        self.assertEqual(line["boxes"]["p"]["box_data"][0]["position"]["middle"], [1.0, 2.0])
        self.assertEqual(read_npy(self.path(line["masks"]["m"]["mask_data"])).shape, (2, 2))

    def test_tensors_without_values(self) -> None:
        self.check_refused(torch.zeros(2, 2, device="meta"), NotImplementedError, "")


@unittest.skipUnless(pillow, "Pillow is not installed")
class PillowTest(Case):
    def test_pixels_are_kept(self) -> None:
        for mode, (n_channels, pixels) in live.CHANNELS.items():
            line = self.log(pillow.frombytes(mode, (live.WIDTH, live.HEIGHT), pixels))
            want = Npy("|u1", (live.HEIGHT, live.WIDTH, n_channels), pixels)
            self.assertEqual(read_npy(self.path(line.pop("data"))), want)
            self.assertEqual(line, {"format": "HWC", "range": [0, 255]})

    def test_a_mode_converts(self) -> None:
        image = pillow.frombytes("RGB", (live.WIDTH, live.HEIGHT), live.RGB)
        line = self.log(image, mode="L")
        self.assertEqual(read_npy(self.path(line["data"])).elements, image.convert("L").tobytes())
        self.assertNotIn("mode", line)

    def test_modes_that_only_a_file_holds(self) -> None:
        rgb = pillow.frombytes("RGB", (live.WIDTH, live.HEIGHT), live.RGB)
        for image in [rgb.convert("1"), rgb.convert("P"), pillow.frombytes("I;16", (4, 3), live.LA)]:
            line = self.log(image)
            self.assertEqual(list(line), ["data"])
            with pillow.open(self.path(line["data"])) as kept:
                self.assertEqual(kept.convert("RGB").tobytes(), image.convert("RGB").tobytes(), image.mode)
                self.assertEqual(kept.mode, image.mode)

    def test_whole_numbers_become_16_bits(self) -> None:
        image = pillow.new("I", (4, 3), 40000)
        with pillow.open(self.path(self.log(image)["data"])) as kept:
            self.assertEqual(kept.getpixel((0, 0)), 40000)

    def test_modes_that_png_does_not_have(self) -> None:
        rgb = pillow.frombytes("RGB", (live.WIDTH, live.HEIGHT), live.RGB)
        for mode, become in [
            ("CMYK", "RGB"),
            ("YCbCr", "RGB"),
            ("HSV", "RGB"),
            ("PA", "RGBA"),
            ("RGBX", "RGB"),
        ]:
            image = rgb.convert("P").convert("PA") if mode == "PA" else rgb.convert(mode)
            got = read_npy(self.path(self.log(image)["data"]))
            self.assertEqual((got.shape[2], got.elements), (len(become), image.convert(become).tobytes()))
        got = read_npy(self.path(self.log(pillow.new("F", (4, 3), 0.5))["data"]))
        self.assertEqual(got, Npy("<f4", (3, 4), struct.pack("<f", 0.5) * 12))

    def test_masks_are_indices(self) -> None:
        for mode, descr, n_bytes in [("L", "|u1", 1), ("P", "|u1", 1), ("I;16", "<u2", 2), ("I", "<i4", 4)]:
            ids = pillow.new(mode, (4, 3), 7)
            line = self.log(GRAY, masks={"m": {"mask_data": ids}})
            got = read_npy(self.path(line["masks"]["m"]["mask_data"]))
            self.assertEqual(got, Npy(descr, (3, 4), (b"\7" + bytes(n_bytes - 1)) * 12))

    def test_masks_of_black_and_white_are_0_and_1(self) -> None:
        ids = pillow.new("1", (11, 3))
        ids.putpixel((9, 1), 1)
        line = self.log(GRAY, masks={"m": {"mask_data": ids}})
        want = bytes(11) + bytes(9) + b"\1" + bytes(1) + bytes(11)
        self.assertEqual(read_npy(self.path(line["masks"]["m"]["mask_data"])), Npy("|u1", (3, 11), want))
        rgb = pillow.frombytes("RGB", (live.WIDTH, live.HEIGHT), live.RGB)
        indexed = rgb.convert("P")
        line = self.log(GRAY, masks={"m": {"mask_data": indexed.convert("PA")}})
        got = read_npy(self.path(line["masks"]["m"]["mask_data"]))
        self.assertEqual(got.elements, indexed.tobytes())
        big = pillow.frombytes("I;16B", (4, 3), live.LA)
        line = self.log(GRAY, masks={"m": {"mask_data": big}})
        got = read_npy(self.path(line["masks"]["m"]["mask_data"]))
        self.assertEqual(got, Npy(">u2", (3, 4), live.LA))

    def test_files_that_are_open_already(self) -> None:
        path = os.path.join(self.folder, "a.png")
        with open(path, "wb") as file:
            file.write(live.png())
        with pillow.open(path) as image:
            line = self.log(image)
        self.assertEqual(read_npy(self.path(line["data"])).elements, live.RGB)


@unittest.skipUnless(matplotlib, "matplotlib is not installed")
class MatplotlibTest(Case):
    def test_figures(self) -> None:
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(1, 1))
        self.addCleanup(plt.close, "all")
        inner = plt.figure(figsize=(1, 1)).subfigures(1, 2)[1]
        for data in (figure, axes, plt, inner, inner.subplots()):
            line = self.log(data)
            self.assertEqual(list(line), ["data"])
            self.assertTrue(self.content(line).startswith(b"\x89PNG"), data)


@unittest.skipUnless(jax, "jax is not installed")
class JaxTest(Case):
    def test_arrays(self) -> None:
        values = jax.numpy.arange(24, dtype="float32").reshape(2, 4, 3)
        self.assertEqual(self.npy(values), Npy("<f4", (2, 4, 3), struct.pack("<24f", *range(24))))
        data = self.log(values.astype("bfloat16"))["data"]
        self.assertEqual((data["dtype"], data["shape"]), ("bfloat16", [2, 4, 3]))
        line = self.log(values, grouping=jax.numpy.asarray(3))
        self.assertEqual(line["grouping"], 3)

    def test_a_traced_array_is_reported(self) -> None:
        run = Run(self.dir)
        jax.jit(lambda x: (run.log({"k": Image(x)}), x)[1])(jax.numpy.zeros((2, 2)))
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("Tracer", self.warnings[0])


class LiveTest(Case):
    def test_the_live_run_is_whole(self) -> None:
        with mock.patch("sys.stderr", io.StringIO()):
            expected = live.write(self.dir)
        keys = {(line["key"], line["step"]) for line in self.lines() if "key" in line}
        self.assertEqual({(item["key"], item["step"]) for item in expected}, keys)
        self.assertEqual(self.lines()[-1], {"finish": True})
        json.dumps(expected)


if __name__ == "__main__":
    unittest.main()
