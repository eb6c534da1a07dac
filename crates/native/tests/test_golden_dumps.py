"""All golden dumps (`tests/golden/dumps`): the extension makes the very files that `safelight ingest` makes.

Needs the program, whose path is in `SAFELIGHT_PROGRAM`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import safelight_native as native

DUMPS = Path(__file__).resolve().parents[3] / "tests/golden/dumps"

# Image options of a line. Each tensor is logged with four of them in turn, so that each meets every kind of tensor.
OPTIONS = [
    {},
    {"profile": "wandb-0.10"},
    {"profile": "wandb-0.20"},
    {"profile": "wandb-0.29"},
    {"range": [-0.5, 1.5]},
    {"colormap": "viridis", "nan_color": "#ff00ff"},
    {"mode": "I;16"},
    {"grid": {"nrow": 2, "padding": 1}},
    {"downscale": 3, "compression": "small"},
    {"mode": "1", "palette": True},
    {"file_type": "webp", "alpha": "composite", "background": "#204060"},
    {"file_type": "jpg", "quality": 90, "profile": "wandb-0.20"},
]
# Fields of an item that say how it was made.
MADE = ("profile", "rule", "range", "colormap", "format", "format_guessed", "stats")


def expected() -> list[dict[str, Any]]:
    with open(DUMPS / "expected.jsonl", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    # An npy file of these types does not name them: the record does.
    return [line for line in lines if not line.get("packed")]


def ingested(lines: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """The items that `safelight ingest` makes of these lines of a log, by step."""
    program = os.environ["SAFELIGHT_PROGRAM"]
    with tempfile.TemporaryDirectory() as folder:
        run, store = os.path.join(folder, "run"), os.path.join(folder, "store")
        shutil.copytree(DUMPS, os.path.join(run, "d"))
        with open(os.path.join(run, "all.media.jsonl"), "w", encoding="utf-8") as log:
            log.writelines(json.dumps(line) + "\n" for line in lines)
        subprocess.run([program, "ingest", run, "--store", store], capture_output=True, check=False)
        command = [program, "ls", "run", "--json", "--store", store]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    items: dict[int, list[dict[str, Any]]] = {}
    for line in said.splitlines():
        item = json.loads(line)
        if item["key"] == "k":
            items.setdefault(item["step"], []).append(item)
    for of_step in items.values():
        of_step.sort(key=lambda item: item.get("index", 0))
    return items


def layouts(values: np.ndarray) -> list[np.ndarray]:
    """The same values as they may lie in memory: in C order, in Fortran order, backwards, with gaps, big-endian."""
    if values.ndim < 2:
        return [values]
    backwards = np.ascontiguousarray(values[::-1, ::-1])[::-1, ::-1]
    gaps = np.zeros((*values.shape[:-1], values.shape[-1] * 2), values.dtype)
    gaps[..., ::2] = values
    return [values, np.asfortranarray(values), backwards, gaps[..., ::2], values.astype(values.dtype.newbyteorder(">"))]


class GoldenDumps(unittest.TestCase):
    def check(self, want: list[dict[str, Any]], made: Any, what: str) -> None:
        self.assertEqual(len(made), len(want), what)
        for item, (content, file_type, mode, size, sha256, how, warnings) in zip(want, made):
            got = {"mode": mode, "width": size[0], "height": size[1], "file_type": file_type, "sha256": sha256}
            self.assertEqual({name: item.get(name) for name in got}, got, what)
            self.assertEqual((item["size"], item.get("warnings", [])), (len(content), warnings), what)
            how = json.loads(how)
            want_stats, got_stats = item["stats"], how["stats"]
            self.assertEqual(want_stats.keys(), got_stats.keys(), what)
            for name, value in want_stats.items():
                # The last digits of a mean depend on the order in which the values lie.
                if isinstance(value, float) and value:
                    self.assertAlmostEqual(got_stats[name] / value, 1, 9, what)
                else:
                    self.assertEqual(got_stats[name], value, what)
            names = [name for name in MADE if name != "stats"]
            self.assertEqual({n: item.get(n) for n in names}, {n: how.get(n) for n in names}, what)

    def test_every_tensor_of_every_writer(self) -> None:
        tensors = expected()
        lines, cases = [], []
        for i, tensor in enumerate(tensors):
            if tensor["file"].startswith("npy/"):
                data: Any = {"path": f"d/{tensor['file']}", "dtype": tensor["dtype"]}
            else:
                data = {"path": f"d/{tensor['file']}", "tensor": tensor["tensor"]}
            for j in range(4):
                options = OPTIONS[(i * 4 + j) % len(OPTIONS)]
                lines.append({"key": "k", "step": len(lines), "data": data, **options})
                cases.append((tensor, options))
        items = ingested(lines)
        n_pictures = n_refused = n_in_memory = 0
        contents: dict[str, bytes] = {}
        for step, (tensor, options) in enumerate(cases):
            what = f"{tensor['file']} {tensor['tensor']} {options}"
            want = items.get(step, [])
            self.assertTrue(want, what)
            record = json.dumps(options).encode()
            is_image = all(item["state"] == "image" for item in want)
            if not tensor["file"].startswith("npy/"):
                name = tensor["file"]
                content = contents.setdefault(name, (DUMPS / name).read_bytes())
                if is_image:
                    self.check(want, native.develop_file(content, record, tensor["tensor"]), what)
                else:
                    with self.assertRaises(ValueError, msg=what) as raised:
                        native.develop_file(content, record, tensor["tensor"])
                    self.assertIn(str(raised.exception), want[0]["reason"], what)
            n_pictures += is_image
            n_refused += not is_image
            # A torch file has channels first, so the memory path names the format that was found.
            if not is_image or "wandb" in options.get("profile", "") and not tensor["file"].startswith("np"):
                continue
            named = options
            if not tensor["file"].startswith("np"):
                if want[0].get("format_guessed"):
                    continue
                named = {**options, "format": want[0]["format"]}
            self.in_memory(tensor, named, want, what)
            n_in_memory += 1
        print(f"{n_pictures} pictures and {n_refused} refusals as of ingest, {n_in_memory} of them from memory")
        self.assertGreater(min(n_pictures, n_refused, n_in_memory), 300)

    def in_memory(self, tensor: dict[str, Any], options: dict[str, Any], want: Any, what: str) -> None:
        name, record = tensor["dtype"], json.dumps(options).encode()
        content = base64.b64decode(tensor["bytes"])
        is_numpys = not name.startswith(("bfloat", "float8"))
        dtype = np.dtype(name if is_numpys else "u2" if name == "bfloat16" else "u1")
        values = np.frombuffer(content, dtype.newbyteorder("<")).reshape(tensor["shape"])
        of_layouts = layouts(values) if is_numpys else layouts(values)[:4]
        for i, laid in enumerate(of_layouts):
            made = native.develop(laid, record, None if is_numpys else name)
            self.check(want, made, f"{what}, in memory, layout {i}")


if __name__ == "__main__":
    unittest.main()
