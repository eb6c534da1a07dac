"""The module on systems that lack what Linux has. Each is played by hiding it from another process."""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
import unittest
from typing import Any

from case import PACKAGE, Case, read_npy
from live import installed

numpy: Any = installed("numpy")

HIDE = """
import builtins, os, sys
try:
    # It uses what is hidden next.
    import numpy
except ImportError:
    numpy = None
for name in sys.argv[3].split():
    if name == "fcntl":
        sys.modules[name] = None
    elif name == "/proc":
        for place in (builtins, os):
            def hidden(path, *rest, open=place.open, **named):
                if str(path).startswith("/proc"):
                    raise FileNotFoundError(2, "No such file or directory", path)
                return open(path, *rest, **named)
            place.open = hidden
    else:
        delattr(os, name)
sys.path.insert(0, sys.argv[1])
import pickle
from safelight import Image, Run
run = Run(sys.argv[2], strict=True, background=sys.argv[4] == "late", name="n")
large = [[0.5] * 600] * 600
if numpy:
    large = numpy.asarray(large)
run.log({"large": Image(large), "k": [Image([[i]]) for i in range(8)]})
pickle.loads(pickle.dumps(run)).log({"sent": Image([[7]], masks={"m": {"mask_data": [[1]]}})})
run.log({"after": Image([[8]])})
run.finish()
"""

# What each system lacks.
WINDOWS = "fcntl O_TMPFILE writev uname register_at_fork O_CLOEXEC pread getppid fork /proc"
MACOS = "O_TMPFILE /proc"


class PortableTest(Case):
    def run_without(self, names: str, how: str = "at once") -> None:
        command = [sys.executable, "-c", HIDE, PACKAGE, self.dir, names, how]
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual((ran.returncode, ran.stdout), (0, ""))

    def check(self) -> None:
        keys = sorted(line["key"] for line in self.lines() if "key" in line)
        self.assertEqual(keys, sorted(["large", *["k"] * 8, "sent", "after"]))
        (large,) = (line for line in self.lines() if line.get("key") == "large")
        got = read_npy(self.path(large["data"]))
        self.assertEqual((got.descr, got.shape, len(got.elements)), ("<f8", (600, 600), 600 * 600 * 8))
        with open(self.path("safelight.json")) as file:
            self.assertEqual(json.load(file), {"name": "n"})
        self.assertEqual([name for name in os.listdir(self.path("tensors")) if name.startswith(".")], [])
        sessions = {header["session"] for header in self.headers()}
        self.assertEqual(len(sessions), 1)

    def test_without_what_windows_lacks(self) -> None:
        self.run_without(WINDOWS)
        self.check()
        # Without locks, each process has a log with a name of its own.
        names = glob.glob(self.path("*.media.jsonl"))
        self.assertEqual(len([name for name in names if os.path.getsize(name)]), 2)

    def test_without_what_macos_lacks(self) -> None:
        self.run_without(MACOS)
        self.check()

    def test_with_a_thread_that_writes(self) -> None:
        for names in (WINDOWS, MACOS):
            self.setUp()
            self.run_without(names, "late")
            self.check()

    def test_without_one_of_them(self) -> None:
        for name in ("fcntl", "O_TMPFILE", "writev"):
            self.setUp()
            self.run_without(name)
            self.check()


if __name__ == "__main__":
    unittest.main()
