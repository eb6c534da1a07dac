"""Tests of failures: what reaches the training, and what is left in the run directory."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import resource
import shutil
import unittest
from typing import Any
from unittest import mock

from case import GRAY, Case

from safelight import Image, Run, _image


class FailureTest(Case):
    def test_each_kind_is_reported_once(self) -> None:
        run = Run(self.dir)
        for _ in range(3):
            self.assertIs(run.log({"a": Image(None), "b": Image(GRAY), "c": Image("/none.png")}), False)
        self.assertEqual(len(self.warnings), 2, self.warnings)
        self.assertIn("a is not logged: TypeError: got a builtins.NoneType", self.warnings[0])
        self.assertEqual([line["key"] for line in self.lines()], ["b"] * 3)

    def test_a_value_in_the_message_makes_no_new_kind(self) -> None:
        # Regression: after a hundred boxes without a position, nothing else was reported.
        run = Run(self.dir)
        for i in range(300):
            box = {"id": i, "name": f"it's, want {i}" + "x" * i}
            run.log({f"k{i}": Image(GRAY, boxes={f"set{i}": {"box_data": [box]}})})
            run.log({f"k{i}": Image(GRAY, colormap=f"c{i}", quality=101 + i)})
            run.log({"k": Image(b"%d" % i), "file": Image(os.path.join(self.folder, f"{i}.png"))})
            run.log({"k": Image([[0] * (i + 1), [0]])})
        for i in range(3):
            path = os.path.join(self.folder, "abc"[i])
            with open(path, "w") as file:
                file.write("no image")
            run.log({"k": Image(path)})
        self.assertEqual(len(self.warnings), 6, self.warnings)

    def test_kinds_are_reported_up_to_a_bound(self) -> None:
        run = Run(self.dir)
        for i in range(300):
            run._report("k", ValueError("abcdefghijklmnopq"[i % 17] * (1 + i // 17)))
        self.assertEqual(len(self.warnings), 101)
        self.assertIn("(reported once)", self.warnings[99])
        self.assertEqual(self.warnings[100], "100 kinds of failure were reported, others are not")

    def test_a_handler_that_raises_and_an_error_without_a_text(self) -> None:
        class Silent(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        run = Run(self.dir)
        run._report("k", Silent())
        self.assertIn("k is not logged: Silent: (no text)", self.warnings[0])
        handler = logging.Handler()
        handler.emit = mock.Mock(side_effect=RuntimeError("no logging"))  # type: ignore[method-assign]
        logging.getLogger("safelight").addHandler(handler)
        self.addCleanup(logging.getLogger("safelight").removeHandler, handler)
        self.assertIs(run.log({"k": [Image(None), Image(GRAY)]}), False)
        self.assertEqual(handler.emit.call_count, 1)
        self.assertEqual(len(self.lines()), 1)

    def test_nothing_is_raised(self) -> None:
        class Wicked:
            def __getattr__(self, name: str) -> Any:
                raise RuntimeError(f"no {name}")

            def __bool__(self) -> bool:
                raise RuntimeError("no bool")

            __str__ = __repr__ = __bool__  # type: ignore[assignment]

        cycle: dict[str, Any] = {}
        cycle["cycle"] = cycle
        run = Run(self.dir)
        for data in (None, 3, [Image(GRAY)], {"k": Image(Wicked())}, cycle, {Wicked(): 1}):
            self.assertIs(run.log(data), False)  # type: ignore[arg-type]
        for name in "mode caption grouping classes boxes masks file_type range grid profile".split():
            self.assertIs(run.log({"k": Image(GRAY, **{name: Wicked()})}), False, name)
            self.assertIs(run.log({"k": Image(GRAY, **{name: cycle})}), False, name)
        self.assertIs(run.log({"k": Image(GRAY)}, step="x"), False)  # type: ignore[arg-type]
        # Some pictures were written, without the value.
        for line in self.lines():
            self.assertEqual(list(line), ["key", "step", "data", "time"])
        self.assertEqual(len(self.dumps()), len(self.lines()))

    def test_a_directory_that_cannot_be_created(self) -> None:
        with open(self.dir, "w"):
            pass
        with self.assertRaises(OSError):
            Run(self.dir, strict=True)
        run = Run(self.dir, id="7")
        self.assertIn("the run is not logged: NotADirectoryError", self.warnings[0])
        self.assertIs(run.log({"k": Image(GRAY)}), False)
        # Regression: a worker of a DataLoader that is spawned failed to start.
        self.assertEqual(pickle.loads(pickle.dumps(run)).dir, self.dir)
        run.finish()

    def test_a_log_that_other_code_closed(self) -> None:
        for what in ("finish", "with"):
            run = Run(self.dir)
            run.log({"k": Image(GRAY)})
            assert run._log._fd is not None
            os.close(run._log._fd)
            if what == "finish":
                run.finish()
            else:
                with self.assertRaises(ZeroDivisionError), run:
                    raise ZeroDivisionError

    def test_a_queue_of_no_size(self) -> None:
        for size in ("many", None, -1, float("nan"), float("inf")):
            with self.assertRaisesRegex(ValueError, "got queue_bytes .*, want a number of bytes"):
                Run(self.dir, queue_bytes=size)  # type: ignore[arg-type]
        self.assertEqual(Run(self.dir, queue_bytes=1e6)._queue_bytes, 10**6)  # type: ignore[arg-type]

    def test_an_interrupt_is_passed_on(self) -> None:
        run = Run(self.dir)
        with mock.patch("os.replace", side_effect=KeyboardInterrupt), self.assertRaises(KeyboardInterrupt):
            run.log({"k": Image(GRAY)})
        with mock.patch.object(_image, "dump_from", side_effect=KeyboardInterrupt):
            self.assertRaises(KeyboardInterrupt, Image, GRAY)
        self.assertEqual((self.logs(), self.dumps()), ([], []))

    def check_interrupted(self, run: Run, images: list[Image], n_whole: int) -> None:
        """Checks that `log` passes the interrupt on, and that just the first images are in the run directory."""
        self.addCleanup(mock.patch.stopall)
        with self.assertRaises(KeyboardInterrupt):
            run.log({"k": images})
        mock.patch.stopall()
        self.assertTrue(run.log({"after": Image(GRAY)}))
        with open(self.logs()[0]) as file:
            text = file.read()
        self.assertEqual((text.count('"time"'), text.count('"key":"after"')), (n_whole + 1, 1))
        self.assertEqual(set(self.dumps()), set(re.findall(r'tensors/([^"]*)"', text)))

    def test_an_interrupt_among_the_dumps_leaves_none_of_them(self) -> None:
        # Regression: they stayed, and no line named them.
        replace = os.replace
        for images, n_last in [
            ([Image([[0] * 5000]) for _ in range(3)], 2),
            ([Image(GRAY) for _ in range(6)], 1),
        ]:
            shutil.rmtree(self.dir, ignore_errors=True)
            n_calls = 0

            def interrupt(*paths: str, n_last: int = n_last) -> None:
                nonlocal n_calls
                replace(*paths)
                n_calls += 1
                if n_calls == n_last:
                    raise KeyboardInterrupt

            mock.patch("os.replace", interrupt).start()
            self.check_interrupted(Run(self.dir), images, 0)

    def test_an_interrupt_among_the_lines_leaves_the_dumps_of_those_that_are_whole(self) -> None:
        write = os.writev
        for n_whole in (0, 2):
            for images in ([Image([[0] * 5000]) for _ in range(3)], [Image(GRAY) for _ in range(6)]):
                shutil.rmtree(self.dir, ignore_errors=True)

                def cut(fd: int, parts: Any, n_whole: int = n_whole) -> int:
                    lines = bytes(parts[0]).splitlines(True)
                    if not lines[0].startswith(b'{"key":"k"'):
                        return write(fd, parts)
                    write(fd, [b"".join(lines[:n_whole]) + lines[n_whole][:15]])
                    raise KeyboardInterrupt

                mock.patch("os.writev", cut).start()
                self.check_interrupted(Run(self.dir), images, n_whole)

    def test_a_full_disk_takes_no_dump(self) -> None:
        run = Run(self.dir)
        large = Image([[0] * 1000])
        with_mask = Image(GRAY, masks={"gt": {"mask_data": [[0] * 1000]}})
        self.limit_files(4096)
        self.assertIs(run.log({"large": large, "mask": with_mask, "small": Image(GRAY)}), False)
        self.assertEqual([line["key"] for line in self.lines()], ["small"])
        self.assertEqual(self.dumps(), [os.path.basename(self.lines()[0]["data"])])
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("File too large", self.warnings[0])

    def test_a_line_cut_short_costs_no_other(self) -> None:
        run = Run(self.dir)
        image = Image(GRAY, caption="c" * 500)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        self.limit_files(4096)
        written = [run.log({"k": image}) for _ in range(10)]
        self.assertEqual(written, sorted(written, reverse=True))
        n_whole = sum(written)
        self.assertLess(n_whole, 10)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        self.assertTrue(run.log({"after": image}))
        run.finish()
        with open(self.logs()[0]) as file:
            lines = file.read().split("\n")[1:]
        torn = lines.pop(n_whole)
        self.assertTrue(torn.startswith('{"key":"k"') and not torn.endswith("}"), torn)
        keys = [json.loads(line).get("key") for line in lines if line]
        self.assertEqual(keys, ["k"] * n_whole + ["after", None])
        self.assertEqual(len(self.dumps()), n_whole + 1)


if __name__ == "__main__":
    unittest.main()
