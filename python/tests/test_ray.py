"""`safelight.ray` without Ray: what a worker does with one run. `./test.sh fleet` runs it with Ray and a store."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import unittest
from typing import Any
from unittest import mock

import live  # noqa: F401  (puts the module on the path)

from safelight import ray


class Worker(unittest.TestCase):
    """The program is a script that does what a test wants."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.log = os.path.join(self.folder, "log")

    def row(self, script: str, uri: str = "/archive/exp7/seed0", **job: Any) -> dict[str, Any]:
        """The row of a run, whose program is this script of sh."""
        program = os.path.join(self.folder, "program")
        with open(program, "w") as file:
            file.write(f'#!/bin/sh\necho "$@" >>{self.log}\n{script}\n')
        os.chmod(program, stat.S_IRWXU)
        defaults = {"box": None, "root": None, "scratch": os.path.join(self.folder, "scratch"), "skip_done": True}
        with mock.patch.dict(os.environ, {"SAFELIGHT_PROGRAM": program}):
            row = ray._row(uri, ray._Job("[sync.fleet]\n", "fleet", **{**defaults, **job}))
        parsed: dict[str, Any] = json.loads(row["json"])
        return parsed

    def commands(self) -> list[list[str]]:
        with open(self.log) as file:
            return [line.split() for line in file]

    def test_a_row_is_that_of_the_program(self) -> None:
        row = self.row("""echo '{"status": "done", "images": 5, "error": null}'; exit 3""", box="b", root="/archive/")
        self.assertEqual((row["status"], row["images"], row["error"], row["kills"]), ("done", 5, None, 0))
        self.assertEqual(row["uri"], "/archive/exp7/seed0")
        [command] = self.commands()
        self.assertEqual(command[:2], ["backfill", "/archive/exp7/seed0"])
        for option, value in [("--run", "exp7/seed0"), ("--box", "b"), ("--target", "fleet")]:
            self.assertEqual(command[command.index(option) + 1], value)
        with open(command[command.index("--config") + 1]) as file:
            self.assertEqual(file.read(), "[sync.fleet]\n")
        self.assertIn("--skip-done", command)

    def test_what_a_signal_killed_is_begun_again(self) -> None:
        twice = f'[ $(wc -l <{self.log}) -ge 3 ] || kill -9 $$; echo \'{{"status": "done", "error": null}}\''
        row = self.row(twice)
        self.assertEqual((row["status"], row["kills"], row["error"]), ("done", 2, None))
        self.assertEqual(self.commands()[0][-1], "--skip-done")

    def test_a_program_that_is_always_killed_is_given_up(self) -> None:
        row = self.row("kill -15 $$")
        self.assertEqual((row["status"], row["kills"]), ("failed", 5))
        self.assertIn("signal 15 killed the program 5 times", row["error"])

    def test_errors_are_rows(self) -> None:
        row = self.row("""echo '{"status": "failed", "error": "no"}'; exit 1""", skip_done=False)
        self.assertEqual((row["status"], row["error"]), ("failed", "no"))
        self.assertNotIn("--skip-done", self.commands()[0])
        row = self.row("echo wrong >&2; exit 78")
        self.assertIn("exit code 78: wrong", row["error"])
        row = self.row("echo nothing like a row")
        self.assertEqual(row["status"], "failed")
        self.assertIn("JSONDecodeError", row["error"])
        with mock.patch.object(ray, "find_program", lambda: None), mock.patch.dict(os.environ):
            os.environ.pop("SAFELIGHT_PROGRAM", None)
            job = ray._Job("", "fleet", None, None, self.folder, True)
            row = json.loads(ray._row("/archive/exp7", job)["json"])
        self.assertIn("not installed on this worker", row["error"])

    def test_an_object_name_never_leads_out_of_the_copy(self) -> None:
        copy = ray._Copy.__new__(ray._Copy)
        copy.folder = copy.aside = os.path.join(self.folder, "copy")
        for path in ("../log", "a/../../log", "/etc/passwd"):
            with self.assertRaisesRegex(ValueError, "want one that stays in its folder"):
                copy._fetch_one((path, 1, 0))


if __name__ == "__main__":
    unittest.main()
