"""The snippets of docs/python.md, run in their order.

    python test_docs.py FOLDER       runs them in FOLDER, which then has the runs of the page

What the page takes for given, such as `train_step`, is defined here: with tensors of torch if it is installed,
else with arrays of NumPy or nested lists.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import os
import re
import sys
import unittest
from typing import Any

from case import PACKAGE, Case
from live import installed

numpy: Any = installed("numpy")
torch: Any = installed("torch")

PAGE = os.path.join(os.path.dirname(PACKAGE), "docs", "python.md")


def snippets() -> list[str]:
    with open(PAGE, encoding="utf-8") as file:
        return re.findall(r"^```python\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)


def full(value: float, *shape: int) -> Any:
    """An array of one value, or nested lists."""
    if torch is not None:
        return torch.full(shape, value)
    if numpy is not None:
        return numpy.full(shape, value)
    return [full(value, *shape[1:]) for _ in range(shape[0])] if shape else value


def given() -> dict[str, Any]:
    """What the page takes for given. Channels come first in torch, else last."""
    photo = full(0.5, *((3, 60, 80) if torch else (60, 80, 3)))
    batch = full(0.25, *((8, 3, 28, 28) if torch else (8, 28, 28, 3)))
    return {
        "loader": [(batch, None)] * 3,
        "train_step": lambda images, labels: (0.5, images),
        "photo": photo,
        "class_ids": full(1, 60, 80),
        "depth": full(float("nan"), 60, 80),
        "latents": full(-1.5, 4, 3, 8, 8),
        "normalized": photo,
        "prediction": photo,
        "pictures": batch,
    }


def follow(folder: str) -> int:
    """Runs the snippets in a folder, as a reader of the page would. Returns how many were run."""
    names, before, n_run = given(), os.getcwd(), 0
    os.chdir(folder)
    try:
        for snippet in snippets():
            if "import torch" in snippet and torch is None:
                # The page's first script. What follows needs only the module.
                import safelight

                names["safelight"] = safelight
                continue
            exec(compile(snippet, PAGE, "exec"), names)
            n_run += 1
            if "dataset = " in snippet:
                # As a worker of a DataLoader would.
                names["dataset"][0]
    finally:
        os.chdir(before)
    return n_run


class DocsTest(Case):
    def test_the_page_can_be_followed(self) -> None:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            n_run = follow(self.folder)
        self.assertEqual(n_run, len(snippets()) - (torch is None))
        self.assertEqual(said.getvalue(), "got 'WH', want HW, HWC, CHW, NHW, NHWC, NCHW\n")
        self.assertEqual(len(self.warnings), 2, self.warnings)
        want = ["the run is finished", "got 'virids'"]
        for warning, text in zip(self.warnings, want):
            self.assertIn(text, warning)
        keys: dict[str, list[str]] = {}
        for run in sorted(os.listdir(os.path.join(self.folder, "runs"))):
            self.dir = os.path.join(self.folder, "runs", run)
            keys[run] = [line["key"] for line in self.lines() if "key" in line]
        loop = ["train/input", *["train/prediction"] * 8] * 3
        want_of_run = [
            "val/detection",
            "depth",
            "latents",
            "input",
            "val/first",
            "val/second",
            "loader/picture",
        ]
        self.assertEqual(keys["1"], [*loop, *want_of_run])
        self.assertEqual(keys["2"], ["prediction"] * 2)
        self.assertEqual(keys["3"], ["photo"])
        with open(os.path.join(self.folder, "runs", "1", "safelight.json")) as file:
            self.assertEqual(json.load(file)["config"], {"lr": 0.001, "batch_size": 32})

    def test_parameters_are_those_of_the_module(self) -> None:
        with open(PAGE, encoding="utf-8") as file:
            page = file.read()
        from safelight import Image, _choices

        for name in ("Format", "Mode", "Profile", "Alpha"):
            for choice in getattr(_choices, name).__args__:
                self.assertIn(f"`{choice}`", page)
        table = page.partition("| parameter | values |")[2].partition("\n\n")[0]
        rows = re.findall(r"^\| (`[^|]*`) \| ", table, re.MULTILINE)
        named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
        # Other parts of the page describe `donate`, and what is beside a picture.
        elsewhere = {
            "self",
            "data_or_path",
            "caption",
            "grouping",
            "classes",
            "boxes",
            "masks",
            "normalize",
            "donate",
        }
        self.assertEqual(sorted(named), sorted(set(inspect.signature(Image.__init__).parameters) - elsewhere))


if __name__ == "__main__":
    if len(sys.argv) == 2 and os.path.isdir(sys.argv[1]):
        logging.disable(logging.WARNING)
        print(follow(sys.argv[1]), file=sys.stderr)
    else:
        unittest.main()
