"""What the tests of `safelight.wandb` share: trainings with the installed wandb, in offline runs without a daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from typing import Any

from live import installed

from safelight.wandb._promises import Promises, names_of

numpy: Any = installed("numpy")
wandb: Any = installed("wandb")

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

START = """
import os, sys, threading, warnings
import numpy as np
import safelight.wandb
def begin(**options):
    import wandb
    settings = wandb.Settings(console="off", disable_git=True, x_disable_stats=True)
    return wandb.init(project="vision", settings=settings, **options)
def photo(n=0):
    return np.full((6, 8, 3), n, np.uint8)
"""


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def at(self, *path: str) -> str:
        return os.path.join(self.folder, *path)

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs Python in the folder, with wandb offline and no daemon."""
        environment = {**os.environ, "PYTHONPATH": PACKAGE, "WANDB_MODE": "offline", "HOME": self.folder}
        environment.update(
            SAFELIGHT_SOCKET=self.at("control.sock"), WANDB_ERROR_REPORTING="false", WANDB_SILENT="true"
        )
        environment.update(variables)
        command = [sys.executable, "-B", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def script(self, code: str, code_wanted: int = 0, **variables: str) -> str:
        """Runs a script and returns what it printed."""
        ran = self.python("-c", START + code, **variables)
        self.assertEqual(ran.returncode, code_wanted, ran.stdout + ran.stderr)
        return ran.stdout + ran.stderr

    def lines(self, directory: str = "run") -> list[dict[str, Any]]:
        """The lines with promises of a run directory."""
        promises = Promises(self.at(directory))
        promises.update()
        return list(promises.lines.values())

    def missing(self, directory: str = "run") -> list[str]:
        """Promised files that are not in the W&B run."""
        files = [
            os.path.join(self.folder, "wandb", line["wandb"]["dir"], "files", name)
            for line in self.lines(directory)
            for name in names_of(line)
        ]
        self.assertNotEqual(files, [])
        return [file for file in files if not os.path.isfile(file)]

    def place(self) -> str:
        ran = self.python("-m", "safelight.wandb", "place", "run", ".")
        return f"{ran.returncode} {ran.stdout}"
