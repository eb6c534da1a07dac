"""Tests of unnamed files, into which large arrays are copied."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import shutil
import unittest
from typing import Any
from unittest import mock

from case import GRAY, Case, in_fork, read_npy
from live import installed

from safelight import Image, Run, _files

numpy: Any = installed("numpy")


@unittest.skipUnless(numpy, "numpy is not installed")
class UnnamedTest(Case):
    """Large arrays, which are copied into an unnamed file in the run directory."""

    def large(self, n: int = 0) -> Any:
        return numpy.arange(n, n + (1 << 18), dtype="f4").reshape(512, 512)

    def check(self, values: Any, line: dict[str, Any]) -> None:
        self.assertEqual(self.content(line)[128:], values.tobytes())

    def test_it_has_no_name_before_it_is_logged_and_holds_the_first_values(self) -> None:
        run = Run(self.dir, strict=True)
        values = self.large()
        image, other = Image(values), Image(values)
        self.assertIsNotNone(image._dump.file)
        want = values.copy()
        values[:] = 0
        self.assertEqual(self.dumps(), [])
        run.log({"k": image})
        del other
        self.check(want, self.lines()[0])
        self.assertEqual(len(self.dumps()), 1)
        self.assertEqual(read_npy(self.path(self.lines()[0]["data"])).shape, (512, 512))

    def test_logged_again_it_is_another_file(self) -> None:
        run = Run(self.dir, strict=True)
        image = Image(self.large())
        run.log({"a": image, "b": Image(image)})
        for name in self.dumps():
            os.unlink(self.path("tensors", name))
        run.log({"c": image})
        again = Run(os.path.join(self.folder, "other"), strict=True)
        again.log({"d": image})
        self.assertEqual(len(self.dumps()), 1)
        self.check(self.large(), self.lines()[2])

    def test_in_another_run_on_another_disk_or_after_its_folder_is_gone(self) -> None:
        for what in ("a disk", "a folder"):
            other = Run(os.path.join(self.folder, what), strict=True)
            image = Image(self.large())
            shutil.rmtree(other.dir)
            run = Run(self.dir, strict=True)
            refused = OSError(errno.EXDEV, "Invalid cross-device link")
            with mock.patch("os.link", side_effect=refused if what == "a disk" else os.link):
                run.log({"k": image})
            self.check(self.large(), self.lines()[-1])

    def test_their_number_is_limited(self) -> None:
        run = Run(self.dir, strict=True)
        # Frees what the mocks of other tests still hold.
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        images = [Image(self.large(n)) for n in range(_files.UNNAMED_MAX + 3)]
        self.assertEqual(sum(image._dump.file is not None for image in images), _files.UNNAMED_MAX)
        run.log({"k": images})
        for n, line in enumerate(self.lines()):
            self.check(self.large(n), line)
        del images
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)
        self.assertEqual(_files.unnamed, set())

    def test_a_file_system_without_unnamed_files(self) -> None:
        run = Run(self.dir, strict=True)
        open_ = os.open

        def refuse(path: Any, flags: int, *rest: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "Operation not supported")
            return open_(path, flags, *rest)

        with mock.patch("os.open", refuse):
            values = self.large()
            image = Image(values)
            values[:] = 0
        self.assertIsNone(image._dump.file)
        run.log({"k": image})
        self.check(self.large(), self.lines()[0])

    def test_a_full_disk(self) -> None:
        run = Run(self.dir)
        early = Image(self.large())
        self.limit_files(1 << 16)
        self.assertIs(run.log({"late": Image(self.large()), "small": Image(GRAY), "early": early}), False)
        self.assertEqual([line["key"] for line in self.lines()], ["small", "early"])
        self.assertEqual(len(self.dumps()), 2)
        self.assertIn("late is not logged: OSError", self.warnings[0])
        self.assertEqual(len(self.warnings), 1)

    def test_a_fork_a_copy_and_another_process(self) -> None:
        run = Run(self.dir, strict=True)
        image = Image(self.large())
        self.assertEqual(in_fork(lambda: run.log({"child": image})), 0)
        run.log({"copy": copy.deepcopy(image), "sent": pickle.loads(pickle.dumps(image)), "parent": image})
        self.assertEqual(len(self.lines()), 4)
        for line in self.lines():
            self.check(self.large(), line)

    def test_a_descriptor_that_somebody_else_closed_is_not_used(self) -> None:
        run = Run(self.dir)
        # Now, and not when the number of the descriptor is that of another test's file.
        self.addCleanup(gc.collect)
        image, closed = Image(self.large()), Image(self.large())
        assert image._dump.file is not None and closed._dump.file is not None
        os.close(closed._dump.file._fd)
        fd = image._dump.file._fd
        foreign = os.path.join(self.folder, "foreign")
        with open(foreign, "wb") as file:
            file.write(bytes(100))
            os.dup2(file.fileno(), fd)
        self.assertIs(run.log({"k": [image, closed]}), False)
        self.assertEqual((self.lines(), self.dumps()), ([], []))
        self.assertEqual(len(self.warnings), 2)
        self.assertEqual(os.stat(foreign).st_nlink, 1)


if __name__ == "__main__":
    unittest.main()
