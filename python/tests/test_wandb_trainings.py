"""Tests of trainings that log pictures with the installed wandb, and of what is left when they end.

They are skipped if wandb is not installed. `tests/it/wandb_handover.rs` compares whole runs, row by row, with a daemon
and a stand-in for W&B's server.
"""

from __future__ import annotations

import glob
import io
import json
import os
import re
import unittest
from typing import Any

from live import installed
from wandb_case import PACKAGE, Case, numpy, wandb

from safelight.wandb._names import profile_of
from safelight.wandb._promises import names_of


@unittest.skipUnless(wandb and numpy, "needs wandb and NumPy")
class Trainings(Case):
    def test_every_picture_is_in_its_run(self) -> None:
        said = self.script(
            """
safelight.wandb.install("run/{project}/{id}")
import wandb
plain = wandb.Image(photo(), mode="L")
run = begin(id="abc")
masks = {"gt": {"mask_data": np.ones((6, 8), int), "class_labels": {1: "car"}}}
boxes = {"p": {"box_data": [{"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1}]}}
run.log({"val/x": wandb.Image(photo(7), caption="seven", masks=masks, boxes=boxes), "plain": plain}, step=5)
run.log({"a": [wandb.Image(photo(i), caption=str(i)) for i in range(3)]}, commit=False)
def work(n):
    for i in range(5):
        wandb.log({f"thread/{n}": wandb.Image(photo(i))})
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
large = np.zeros((800, 900, 3), np.uint8)
image = wandb.Image(large); large[:] = 9
wandb.log({"large": image})
run.finish()
"""
        )
        self.assertNotIn("safelight", said.lower())
        lines = self.lines("run/vision/abc")
        self.assertEqual(self.missing("run/vision/abc"), [])
        self.assertEqual(len(lines), 1 + 3 + 15 + 1)
        first = lines[0]
        wanted = {"key": "val/x", "step": 5, "caption": "seven", "format": "HWC"}
        self.assertEqual({name: first[name] for name in wanted}, wanted)
        self.assertEqual(first["profile"], profile_of(wandb.__version__))
        self.assertEqual(first["masks"]["gt"]["class_labels"], {"1": "car"})
        self.assertEqual(first["boxes"]["p"]["box_data"][0]["class_id"], 1)
        files = first["wandb"]["files"]
        self.assertRegex(files["image"], r"^media/images/val/x_\d_[0-9a-f]{20}\.png$")
        self.assertRegex(files["masks"]["gt"], r"^media/images/mask/val/x_\d_[0-9a-f]{20}\.mask\.png$")
        self.assertTrue(all(line["step"] == 5 for line in lines[:4]))
        pillow = installed("PIL.Image")
        folder = self.at("wandb", first["wandb"]["dir"], "files")
        picture = pillow.open(os.path.join(folder, files["image"]))
        self.assertEqual((picture.mode, picture.size, picture.getpixel((1, 2))), ("RGB", (8, 6), (7, 7, 7)))
        mask = pillow.open(os.path.join(folder, files["masks"]["gt"]))
        self.assertEqual((mask.mode, mask.size, mask.getextrema()), ("L", (8, 6), (1, 1)))
        large = pillow.open(os.path.join(folder, lines[-1]["wandb"]["files"]["image"]))
        self.assertEqual(large.getextrema(), ((0, 0), (0, 0), (0, 0)))
        with open(self.at("run/vision/abc/safelight.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["project"], "vision")
        with open(glob.glob(self.at("run/vision/abc/*.jsonl"))[0], encoding="utf-8") as file:
            self.assertEqual(json.loads(file.read().splitlines()[-1]), {"finish": True})

    def test_an_offline_run_records_every_file_that_a_row_names(self) -> None:
        self.script(
            """
safelight.wandb.install("run")
import wandb
run = begin(id="offline")
image = wandb.Image(photo(), masks={"m": {"mask_data": np.ones((6, 8), int)}})
run.log({"x": image, "table": wandb.Table(columns=["image"], data=[[image]])})
twice = wandb.Image(photo(1))
run.log({"a": [twice], "b": [twice], "same": [twice, twice]})
run.finish()
"""
        )
        lines = self.lines()
        self.assertEqual(sorted(line["key"] for line in lines), ["a", "b", "same", "same", "x"])
        self.assertEqual(self.missing(), [])
        (log,) = glob.glob(self.at("wandb/*-offline/*.wandb"))
        with open(log, "rb") as file:
            content = file.read()
        for name in [name for line in lines for name in names_of(line)]:
            # A `FilesItem` of wandb's protocol: field 1 is the path.
            self.assertTrue(bytes([10, len(name)]) + name.encode() in content, name)

    def test_a_picture_that_cannot_be_made_costs_no_other(self) -> None:
        with open(self.at("run"), "w", encoding="utf-8"):
            pass
        said = self.script(
            """
import wandb
safelight.wandb.install("run")
from safelight.wandb import _patches
Handover, values = _patches.Handover, _patches.Handover.values
def fails_once(found):
    Handover.values = values
    raise OSError("as planned")
with begin(id="x") as run:
    safelight.wandb._installed._runs.of(run)._run._write = lambda entries: False
    images = [wandb.Image(photo(n)) for n in range(3)]
    Handover.values = fails_once
    run.log({"list": images})
    # The values are still there.
    assert images[0].image.getpixel((0, 0)) == (0, 0, 0)
"""
        )
        self.assertEqual(said.count("as planned"), 1, said)
        self.assertEqual(len(glob.glob(self.at("wandb/*-x/files/media/images/*.png"))), 3)

    def test_tables_and_artifacts_are_those_of_wandb(self) -> None:
        script = os.path.join(os.path.dirname(PACKAGE), "tests/wandb_script.py")
        path = self.python("-m", "safelight.wandb", "path").stdout.strip()
        for name, variables in ("plain", {}), ("ours", {"PYTHONPATH": path, "SAFELIGHT_WANDB": "run"}):
            os.mkdir(self.at(name))
            # wandb writes sets in the order of their hashes.
            variables = {**variables, "PYTHONHASHSEED": "0", "HOME": self.at(name)}
            ran = self.python(script, self.at(name), "same", "tables", **variables)
            self.assertEqual(ran.returncode, 0, ran.stderr)
        # What was in a table first has a file of wandb.
        self.assertEqual([line["key"] for line in self.lines()], ["first"])
        plain, ours = (self._contents(self.at(name)) for name in ("plain", "ours"))
        self.assertEqual(ours, plain)
        self.assertGreater(len(plain), 10)

    def _contents(self, folder: str) -> list[Any]:
        """The media files and staged files of artifacts below a folder: pixels, and text without digests."""
        pillow, found = installed("PIL.Image"), []
        for where, _, names in os.walk(folder):
            for name in names if "/staging" in where or "/media/" in where else []:
                with open(os.path.join(where, name), "rb") as file:
                    content = file.read()
                if content.startswith(b"\x89PNG"):
                    picture = pillow.open(io.BytesIO(content))
                    found.append(repr((picture.mode, picture.size, picture.tobytes())))
                else:
                    found.append(re.sub(r"[0-9a-f]{20,64}", "", content.decode()))
        return sorted(found)

    def test_a_killed_training_leaves_its_pictures_for_place(self) -> None:
        code = """
safelight.wandb.install("run")
import wandb
run = begin(id="killed")
for n in range(10):
    run.log({"x": wandb.Image(photo(n)), "list": [wandb.Image(photo(n)) for _ in range(3)]})
os.kill(os.getpid(), 9)
"""
        self.script(code, -9)
        n = len(self.missing())
        self.assertGreater(n, 0)
        there = 40 - n
        self.assertEqual(self.place(), f"0 {there} pictures were there, {n} were put there, 0 are missing\n")
        self.assertEqual(self.missing(), [])
        self.assertEqual(self.place(), "0 40 pictures were there, 0 were put there, 0 are missing\n")
        lost = self.lines()[3]
        os.unlink(self.at("wandb", lost["wandb"]["dir"], "files", lost["wandb"]["files"]["image"]))
        # Small arrays of one call are in one file.
        os.unlink(self.at("run", lost["data"]["path"]))
        self.assertEqual(self.place(), "1 39 pictures were there, 0 were put there, 1 are missing\n")

    def test_place_says_which_directory_is_wrong(self) -> None:
        self.script(
            """
safelight.wandb.install("run")
import wandb
with begin(id="x") as run:
    run.log({"x": wandb.Image(photo())})
"""
        )
        os.mkdir(self.at("empty"))
        for run_dir, wandb_dir, said in (
            ("missing", ".", "cannot read missing: No such file or directory"),
            ("run", "missing", f"cannot read {self.at('missing')}: No such file or directory"),
            ("empty", ".", "no log in empty promises pictures"),
            ("wandb", "run", "no log in wandb promises pictures"),
        ):
            ran = self.python("-m", "safelight.wandb", "place", run_dir, wandb_dir)
            self.assertEqual(ran.returncode, 2, ran.stderr)
            self.assertTrue(ran.stderr.startswith(f"safelight: {said}"), ran.stderr)
        ran = self.python("-m", "safelight.wandb", "place", "run", "empty")
        self.assertEqual((ran.returncode, "no run offline-run-" in ran.stderr), (1, True), ran.stderr)

    def test_finish_names_what_is_missing(self) -> None:
        said = self.script(
            """
safelight.wandb.install("run", finish_s=0)
import wandb
with begin(id="short") as run:
    run.log({"list": [wandb.Image(photo(n)) for n in range(30)]})
"""
        )
        n = len(self.missing())
        self.assertGreater(n, 0)
        self.assertIn(f"{n} pictures are not in the W&B run short: media/images/list_0_", said)
        self.assertIn("place", said)
        self.assertTrue(self.place().endswith("0 are missing\n"))
        self.assertEqual(self.missing(), [])

    def test_a_forked_process_leaves_its_pictures_to_the_one_that_ends_the_run(self) -> None:
        self.script(
            """
safelight.wandb.install("run")
import wandb
run = begin(id="forked")
run.log({"parent": wandb.Image(photo())})
child = os.fork()
if child == 0:
    run.log({"child": wandb.Image(photo(9))})
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
run.log({"parent": wandb.Image(photo())})
"""
        )
        self.assertEqual(sorted(line["key"] for line in self.lines()), ["child", "parent", "parent"])
        self.assertEqual(self.missing(), [])

    def test_an_exception_ends_the_run_with_its_pictures(self) -> None:
        self.script(
            """
safelight.wandb.install("run")
import wandb
run = begin()
run.log({"x": wandb.Image(photo())})
raise SystemError("as planned")
""",
            1,
        )
        self.assertEqual(self.missing(), [])
        with open(glob.glob(self.at("run/*.jsonl"))[0], encoding="utf-8") as file:
            self.assertNotIn("finish", file.read())

    def test_what_cannot_be_handed_over_is_left_to_wandb(self) -> None:
        with open(self.at("run"), "w", encoding="utf-8"):
            pass
        said = self.script(
            """
import wandb
safelight.wandb.install("run")
with begin(id="x") as run:
    run.log({"x": wandb.Image(photo()), "list": [wandb.Image(photo(n)) for n in range(2)]})
"""
        )
        self.assertEqual(len(glob.glob(self.at("wandb/*-x/files/media/images/*.png"))), 3)
        self.assertIn("left to wandb", said)

    def test_a_disabled_run_writes_nothing(self) -> None:
        self.script(
            """
safelight.wandb.install("run")
import wandb
with begin(mode="disabled") as run:
    image = wandb.Image(photo(3), masks={"m": {"mask_data": np.ones((6, 8), int)}})
    run.log({"x": image})
    assert image.image.getpixel((0, 0)) == (3, 3, 3)
"""
        )
        self.assertFalse(os.path.exists(self.at("run")))

    def test_several_runs_of_one_process_have_directories_of_their_own(self) -> None:
        self.script(
            """
safelight.wandb.install("run/{id}")
import wandb
for id in "one", "two":
    with begin(id=id) as run:
        run.log({"x": wandb.Image(photo())})
"""
        )
        self.assertEqual(self.missing("run/one") + self.missing("run/two"), [])
