"""Small images of one `log`, which share a file."""

from __future__ import annotations

import errno
import os
import struct
import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

from case import GRAY, Case
from live import IDS, installed, nested, png

from safelight import Image, Run, _batch
from safelight._batch import Entry

numpy: Any = installed("numpy")
ml_dtypes: Any = installed("ml_dtypes")


class PackTest(Case):
    def elements(self, line: dict[str, Any], n_bytes: int) -> bytes:
        with open(self.path(line["data"]["path"]), "rb") as file:
            file.seek(line["data"]["offset"])
            return file.read(n_bytes)

    def test_they_lie_one_after_another_in_one_file(self) -> None:
        run = Run(self.dir, strict=True)
        self.assertIs(
            run.log({"k": [Image([[i]], caption=f"c{i}") for i in range(64)], "other": Image(GRAY)}), True
        )
        lines = self.lines()
        self.assertEqual(len(self.dumps()), 1)
        for i, line in enumerate(lines[:64]):
            self.assertEqual(list(line), ["key", "step", "data", "caption", "time"])
            self.assertEqual((line["key"], line["step"], line["caption"]), ("k", 0, f"c{i}"))
            want = {"path": f"tensors/{self.dumps()[0]}", "dtype": "int64", "shape": [1, 1]}
            self.assertEqual(line["data"], {**want, "byte_order": "little", "offset": 8 * i})
            self.assertEqual(self.elements(line, 8), struct.pack("<q", i))
        self.assertEqual((lines[64]["key"], lines[64]["data"]["offset"]), ("other", 512))
        self.assertEqual(os.path.getsize(self.path("tensors", self.dumps()[0])), 512 + 48)

    def test_one_log_is_two_writes(self) -> None:
        run = Run(self.dir, strict=True)
        run.log({"k": Image(GRAY)})
        with mock.patch("os.writev", side_effect=os.writev) as write:
            run.log({"k": [Image(GRAY) for _ in range(64)]})
        self.assertEqual(write.call_count, 2)

    def test_few_large_and_encoded_images_are_files(self) -> None:
        # Of 32 KiB without the header of a file.
        small, large = [[0] * (1 << 12)], [[0] * ((1 << 12) + 1)]
        for name, images, n_files in [
            ("few", [Image(GRAY) for _ in range(3)], 3),
            ("small", [Image(small) for _ in range(4)], 1),
            ("large", [Image(large) for _ in range(5)], 5),
            ("both", [*(Image(GRAY) for _ in range(4)), Image(large)], 2),
            ("encoded", [Image(png()) for _ in range(5)], 5),
        ]:
            run = Run(os.path.join(self.folder, name), strict=True)
            run.log({"k": images})
            self.assertEqual(len(os.listdir(os.path.join(run.dir, "tensors"))), n_files, name)
        Run(self.dir, strict=True, pack=False).log({"k": [Image(GRAY) for _ in range(9)]})
        self.assertEqual(len(self.dumps()), 9)

    def test_a_file_is_bounded(self) -> None:
        run = Run(self.dir, strict=True)
        image = Image([[7] * 2000])
        run.log({"k": [Image(image) for _ in range(100)]})
        sizes = [os.path.getsize(self.path("tensors", name)) for name in self.dumps()]
        self.assertEqual(sum(sizes), 100 * 16000)
        self.assertLessEqual(max(sizes), _batch._PACK_BYTES_MAX)
        for line in self.lines():
            self.assertEqual(self.elements(line, 16000), struct.pack("<q", 7) * 2000)

    def test_masks_are_packed(self) -> None:
        ids = nested(list(IDS), 3, 4)
        run = Run(self.dir, strict=True)
        run.log(
            {"k": [Image(GRAY, masks={"gt": {"mask_data": ids, "class_labels": {1: "a"}}}) for _ in range(2)]}
        )
        self.assertEqual(len(self.dumps()), 1)
        for line in self.lines():
            mask = line["masks"]["gt"]
            self.assertEqual((mask["class_labels"], mask["mask_data"]["shape"]), ({"1": "a"}, [3, 4]))
            self.assertEqual(self.elements({"data": mask["mask_data"]}, 96), struct.pack("<12q", *IDS))

    def test_a_long_caption_boxes_and_other_fields(self) -> None:
        box = {"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75}, "class_id": 1}
        run = Run(self.dir, strict=True)
        run.log(
            {"k": [Image(GRAY, caption="c" * 10_000, boxes={"p": {"box_data": [box]}}) for _ in range(4)]}
        )
        self.assertEqual(len(self.dumps()), 1)
        for line in self.lines():
            self.assertEqual((len(line["caption"]), line["boxes"]["p"]["box_data"]), (10_000, [box]))

    @unittest.skipUnless(numpy, "numpy is not installed")
    def test_types(self) -> None:
        arrays = [
            numpy.arange(6).reshape(2, 3).astype(t) for t in "? u1 u2 i1 i8 f2 f4 f8 c8 c16 >u2 >f4".split()
        ]
        if ml_dtypes:
            arrays += [arrays[0].astype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e5m2")]
        run = Run(self.dir, strict=True)
        run.log({"k": [Image(values) for values in arrays]})
        self.assertEqual(len(self.dumps()), 1)
        for values, line in zip(arrays, self.lines()):
            data = line["data"]
            self.assertEqual((data["dtype"], data["shape"]), (values.dtype.name, [2, 3]))
            if values.itemsize > 1:
                self.assertEqual(data["byte_order"], "big" if values.dtype.byteorder == ">" else "little")
            self.assertEqual(self.elements(line, values.nbytes), values.tobytes())

    def test_a_failure_costs_no_other(self) -> None:
        run = Run(self.dir)
        images = [Image(GRAY) for _ in range(6)]
        self.assertIs(run.log({"k": [*images, Image(None)], "": images}), False)
        self.assertEqual([line["key"] for line in self.lines()], ["k"] * 6)
        with self.assertRaisesRegex(TypeError, "NoneType"):
            Run(self.dir, strict=True).log({"k": [*images, Image(None)]})
        self.assertEqual(len(self.lines()), 12)
        self.assertEqual(len(self.dumps()), 2)

    def test_an_image_that_raises_costs_no_other(self) -> None:
        # Regression: the others of its `log` were lost, too.
        run = Run(self.dir)
        images = [Image([[i]], caption="c") for i in range(6)]
        failing = RuntimeError("CUDA error: an illegal memory access")
        images[2]._dump = images[2]._dump.but(
            pending=SimpleNamespace(n_bytes=8, elements=mock.Mock(side_effect=failing))
        )
        self.assertIs(
            run._files.write([Entry("k", 0, image, 0.5, {}, ()) for image in images])[0].error, failing
        )
        lines = self.lines()
        self.assertEqual(
            [self.elements(line, 8) for line in lines], [struct.pack("<q", i) for i in (0, 1, 3, 4, 5)]
        )
        self.assertEqual(len(self.dumps()), 1)

    def test_lines_that_cannot_be_written_leave_no_file(self) -> None:
        run = Run(self.dir)
        run.log({"k": Image(GRAY)})
        write = os.writev
        images = [Image(GRAY, caption="c" * 100) for _ in range(8)]

        def cut(fd: int, parts: Any) -> int:
            if not bytes(parts[0]).startswith(b'{"key":"k","step":1'):
                return write(fd, parts)
            if n_bytes:
                write(fd, [bytes(parts[0])[:n_bytes]])
            raise OSError(errno.ENOSPC, "No space left on device")

        for n_bytes, n_whole in [(0, 0), (700, 2)]:
            n_before = len(self.dumps())
            with mock.patch("os.writev", cut):
                self.assertIs(run.log({"k": images}, step=1), False)
            self.assertEqual(len(self.dumps()), n_before + (n_whole > 0))
            self.assertIs(run.log({"after": Image(GRAY)}, step=2), True)
            with open(self.logs()[0]) as file:
                content = file.read()
            self.assertEqual(content.count('"time"') - content.count('"after"'), 1 + n_whole)

    def test_without_room_for_all_what_fits_is_written(self) -> None:
        run = Run(self.dir)
        run.log({"k": Image(GRAY)})
        self.limit_files(6000)
        self.assertIs(run.log({"k": [Image([[i] * 200]) for i in range(6)]}), True)
        self.assertEqual((len(self.dumps()), len(self.lines())), (7, 7))
