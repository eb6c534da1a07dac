"""Tests of runs: their directory, steps and logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest
from types import SimpleNamespace
from unittest import mock

import live
from case import GRAY, PACKAGE, Case

from safelight import Image, Run


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
        # Regression: a second `Run` of the directory, such as that of another rank, removed what `update` had added.
        Run(self.dir, config={"lr": 0.3})
        with open(self.path("safelight.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file), {**want, "config": {"lr": 0.3, "seed": 3}})
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


if __name__ == "__main__":
    unittest.main()
