"""What the tests of the module share: a run directory, and the files in it read back without the module."""

from __future__ import annotations

import ast
import contextlib
import glob
import json
import logging
import os
import resource
import shutil
import signal
import struct
import tempfile
import unittest
from typing import Any, Iterator, NamedTuple

import live  # noqa: F401  (puts the module on the path)

import safelight
from safelight import Image, Run

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(safelight.__file__)))
GRAY = [[0, 128, 255], [1, 2, 3]]


class Npy(NamedTuple):
    descr: str
    shape: tuple[int, ...]
    elements: bytes


def read_npy(path: str) -> Npy:
    """Reads an npy file by its specification, without NumPy."""
    with open(path, "rb") as file:
        content = file.read()
    assert content[:8] == b"\x93NUMPY\x01\x00", content[:8]
    start = 10 + struct.unpack("<H", content[8:10])[0]
    assert start % 64 == 0 and content[start - 1 : start] == b"\n", "padding"
    header = ast.literal_eval(content[10:start].decode("ascii"))
    assert list(header) == ["descr", "fortran_order", "shape"] and header["fortran_order"] is False
    return Npy(header["descr"], header["shape"], content[start:])


class Case(unittest.TestCase):
    """A test with a run directory and a record of the module's warnings."""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.dir = os.path.join(self.folder, "run")
        self.warnings: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.warnings.append(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("safelight")
        logger.addHandler(handler)
        logger.propagate = False
        self.addCleanup(logger.removeHandler, handler)

    def path(self, *names: str) -> str:
        return os.path.join(self.dir, *names)

    def logs(self) -> list[str]:
        return sorted(glob.glob(self.path("*.media.jsonl")))

    def lines(self) -> list[dict[str, Any]]:
        """All lines of all logs but the headers, in order. Each line must be complete."""
        lines = []
        for path in self.logs():
            with open(path, encoding="utf-8") as file:
                content = file.read()
            self.assertTrue(content == "" or content.endswith("\n"), "an unfinished line")
            of_log = [json.loads(line) for line in content.split("\n") if line]
            self.assertEqual([list(line) for line in of_log[:1]], [["session", "rank"]][: len(of_log)])
            lines += of_log[1:]
        return lines

    def headers(self) -> list[dict[str, Any]]:
        """The first line of each log that has one."""
        lines = []
        for path in self.logs():
            with open(path, encoding="utf-8") as file:
                lines.append(file.readline())
        return [json.loads(line) for line in lines if line]

    def dumps(self) -> list[str]:
        return sorted(os.listdir(self.path("tensors")))

    def log(self, data: Any, key: str = "k", **options: Any) -> dict[str, Any]:
        """Logs one image in a strict run. Returns its log line."""
        self.assertTrue(Run(self.dir, strict=True).log({key: Image(data, **options)}))
        line = self.lines()[-1]
        self.assertEqual((line.pop("key"), line.pop("step")), (key, 0))
        self.assertIsInstance(line.pop("time"), float)
        return line

    def content(self, line: dict[str, Any]) -> bytes:
        with open(self.path(line["data"]), "rb") as file:
            return file.read()

    def npy(self, data: Any) -> Npy:
        return read_npy(self.path(self.log(data)["data"]))

    def limit_files(self, n_bytes: int) -> None:
        """Limits the size of each file. Longer writes are cut short and then fail, as on a full disk."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGXFSZ, handler)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))

    @contextlib.contextmanager
    def signals_that_log(self, run: Run) -> Iterator[list[int]]:
        """Logs images by the key "signal" from the handler of a timer, again and again until the block ends. Yields the
        list of their values."""
        is_on = True
        logged: list[int] = []

        def log(*_: Any) -> None:
            logged.append(len(logged))
            run.log({"signal": Image([logged[-1:]])})
            # Only now: on a busy machine, signals at fixed times would nest until Python's limit of recursion.
            if is_on:
                signal.setitimer(signal.ITIMER_REAL, 0.001)

        handler = signal.signal(signal.SIGALRM, log)
        self.addCleanup(signal.signal, signal.SIGALRM, handler)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        yield logged
        is_on = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def check_refused(self, data: Any, kind: type[Exception], want: str, **options: Any) -> None:
        """Checks that `data` writes nothing: a strict run raises, any other run warns."""
        with self.assertRaises(kind) as caught:
            Run(self.dir, strict=True).log({"k": Image(data, **options)})
        self.assertIn(want, str(caught.exception))
        self.warnings.clear()
        self.assertIs(Run(self.dir).log({"k": Image(data, **options)}), False)
        self.assertEqual(len(self.warnings), 1, self.warnings)
        self.assertIn(want, self.warnings[0])
        self.assertEqual((self.lines(), self.dumps()), ([], []))


def in_fork(work: Any) -> int:
    """Calls `work` in a forked process. Returns its exit status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]
