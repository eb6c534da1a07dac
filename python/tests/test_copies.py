"""Copies of arrays in memory, and the memory that they use again."""

from __future__ import annotations

import gc
import unittest
from typing import Any
from unittest import mock

from case import Case, read_npy
from live import installed

from safelight import Image, Run, _copies

numpy: Any = installed("numpy")
ml_dtypes: Any = installed("ml_dtypes")


def address(values: Any) -> int:
    return int(numpy.frombuffer(values, "u1").__array_interface__["data"][0])


@unittest.skipUnless(numpy, "numpy is not installed")
class CopiesTest(Case):
    def setUp(self) -> None:
        super().setUp()
        gc.collect()
        _copies._free.clear()

    def test_elements_are_in_c_order_whatever_the_strides(self) -> None:
        types = ["?", "u1", "f2", "f4", "f8", ">f4", "<i2", "c16"]
        if ml_dtypes:
            types.append(ml_dtypes.bfloat16)
        for dtype in types:
            # Above the size from which memory is used again, and around the number of channels.
            for shape in ((3, 700, 800), (5, 400, 600), (2, 1, 300, 400), (2, 3, 500, 700), (1, 64, 64)):
                values = numpy.random.default_rng(0).integers(0, 99, shape).astype(dtype)
                views = [
                    values,
                    numpy.moveaxis(values, -3, -1),
                    numpy.moveaxis(values, -3, -1)[::-1, ::2],
                    numpy.moveaxis(values, -3, -1)[..., ::-1],
                    numpy.ascontiguousarray(numpy.moveaxis(values, -3, -1))[..., ::-1],
                    numpy.ascontiguousarray(numpy.moveaxis(values, -3, -1))[..., 10:-10, :],
                    numpy.broadcast_to(values[..., :1], values.shape[:-1] + (3,)),
                    values.T,
                    values.swapaxes(-1, -2),
                ]
                for i, view in enumerate(views):
                    self.assertEqual(bytes(_copies.copied(view)), view.tobytes(), (dtype, shape, i))
        for odd in (
            numpy.zeros((0, 3)),
            numpy.float32(3),
            numpy.zeros(100_000),
            numpy.zeros((100_000, 1))[::-1],
        ):
            values = numpy.asarray(odd)
            self.assertEqual(bytes(_copies.copied(values)), values.tobytes())

    def test_small_parts(self) -> None:
        for n_bytes in (1, 1000, 100_000):
            with mock.patch.object(_copies, "_PART_BYTES", n_bytes):
                values = numpy.moveaxis(
                    numpy.arange(5 * 3 * 70 * 41, dtype="i8").reshape(5, 3, 70, 41), 1, -1
                )
                for view in (values, values[0], values[::-1, :, :40]):
                    self.assertEqual(bytes(_copies.copied(view)), view.tobytes())

    def test_memory_is_used_again_once_nothing_refers_to_it(self) -> None:
        values = numpy.arange(1 << 18, dtype="i8")
        first = _copies.copied(values)
        part, where = first[:8], address(first)
        self.assertNotEqual(address(_copies.copied(values)), where)
        del first
        other = _copies.copied(values + 1)
        self.assertNotEqual(address(other), where)
        self.assertEqual(bytes(part), bytes(8))
        del part
        # A smaller copy fits as well, but one of less than half the size would waste it.
        self.assertNotEqual(address(_copies.copied(values[: (1 << 17) - 1])), where)
        again = [_copies.copied(values[: 1 << 17]), _copies.copied(values)]
        self.assertIn(where, map(address, again))
        self.assertEqual([bytes(each) for each in again], [values[: 1 << 17].tobytes(), values.tobytes()])

    def test_what_is_kept_is_bounded(self) -> None:
        values = numpy.zeros(1 << 20, "u1")
        with mock.patch.object(_copies, "_KEPT_BYTES_MAX", 3 << 20):
            copies = [_copies.copied(values) for _ in range(5)]
            del copies
        self.assertEqual(len(_copies._free), 3)

    def test_images_that_wait_keep_theirs(self) -> None:
        run = Run(self.dir, strict=True, background=True)
        arrays = [numpy.full((512, 600), i, "f8").T for i in range(8)]
        for _ in range(3):
            # Some are never logged.
            unused = [Image(values) for values in arrays]
            for values in arrays:
                run.log({"k": Image(values)})
            del unused
        run.flush()
        for i, line in enumerate(self.lines()):
            elements = read_npy(self.path(line["data"])).elements
            self.assertEqual(elements, arrays[i % 8].tobytes())
        gc.collect()
        self.assertGreater(len(_copies._free), 0)


if __name__ == "__main__":
    unittest.main()
