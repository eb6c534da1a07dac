"""Tests of the search for images in what `log` is given."""

from __future__ import annotations

import collections
import fractions
import itertools
import unittest
from types import SimpleNamespace
from typing import Any

from case import GRAY, Case
from live import installed

from safelight import Image, Run

numpy: Any = installed("numpy")


class SearchTest(Case):
    """Images in containers of any kind, and what is passed over."""

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


if __name__ == "__main__":
    unittest.main()
