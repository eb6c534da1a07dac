"""What the tests of the adapters share."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

PROGRAM = os.environ.get("SAFELIGHT_PROGRAM", "safelight")


class Case(unittest.TestCase):
    """A test with a folder for runs, and the warnings of the module."""

    def setUp(self) -> None:
        import numpy

        self.np = numpy
        self.random = numpy.random.default_rng(0)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.warnings: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.warnings.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("safelight").addHandler(handler)
        self.addCleanup(logging.getLogger("safelight").removeHandler, handler)

    def bytes_of(self, *shape: int) -> Any:
        return self.random.integers(0, 256, shape, dtype="u1")

    def floats_of(self, *shape: int) -> Any:
        return self.random.random(shape, dtype="f4")

    def items(self, run: Any) -> list[dict[str, Any]]:
        """Makes the pictures of a run. Returns its items in the order of keys, steps and indices, each with
        its `pixels`."""
        store = str(self.folder / f"store of {pathlib.Path(run).name}")
        subprocess.run([PROGRAM, "ingest", str(run), "--store", store], check=True, stdout=subprocess.DEVNULL)
        said = subprocess.run([PROGRAM, "ls", "--json", "--store", store], check=True, stdout=subprocess.PIPE)
        items = [json.loads(line) for line in said.stdout.splitlines()]
        for item in items:
            self.assertEqual(item["state"], "image", item)
            item["pixels"] = self.opened(os.path.join(store, item["path"]))
        return items

    def opened(self, file: Any) -> Any:
        """The pixels of an image file as (H, W, 3) or, with transparency, (H, W, 4)."""
        from PIL import Image

        with Image.open(file) as picture:
            mode = "RGBA" if picture.mode in ("LA", "RGBA") else "RGB"
            return self.np.asarray(picture.convert(mode), dtype="i2")

    def assert_pixels(self, got: Any, want: Any, within: int = 0) -> None:
        want = self.np.asarray(want, dtype="i2")
        self.assertEqual(got.shape, want.shape)
        self.assertLessEqual(int(abs(got - want).max()), within)

    def places(self, items: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
        return [(item["key"], item["step"], item["index"]) for item in items]

    def identity(self, run: Any) -> Any:
        return json.loads((pathlib.Path(run) / "safelight.json").read_text())
