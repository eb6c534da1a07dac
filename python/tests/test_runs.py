"""Tests of runs: their directory, steps and logs, and failures."""

from __future__ import annotations

import copy
import errno
import gc
import json
import logging
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

import live
from case import GRAY, PACKAGE, Case, in_fork, read_npy
from live import installed

from safelight import Image, Run, _files, _image

numpy: Any = installed("numpy")


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

    def test_an_interrupt_leaves_no_dump_without_a_line(self) -> None:
        large = [[0] * 5000]
        for n_whole in (None, 0, 2):
            for images in ([Image(large) for _ in range(3)], [Image(GRAY) for _ in range(6)]):
                shutil.rmtree(self.dir, ignore_errors=True)
                run = Run(self.dir)
                run.log({"before": Image(GRAY)})
                write, replace = os.writev, os.replace

                def cut(fd: int, parts: Any, n_whole: Any = n_whole, write: Any = write) -> int:
                    lines = bytes(parts[0]).splitlines(True)
                    if n_whole is None or not lines[0].startswith(b'{"key":"k"'):
                        return int(write(fd, parts))
                    write(fd, [b"".join(lines[:n_whole]) + lines[n_whole][:9]])
                    raise KeyboardInterrupt

                def interrupt(*paths: str, replace: Any = replace) -> None:
                    replace(*paths)
                    # After the second of three files, or the one file.
                    if mocked.call_count == min(2, n_files):
                        raise KeyboardInterrupt

                n_files = 3 if len(images) == 3 else 1
                patched = mock.patch("os.writev", cut) if n_whole is not None else mock.patch("os.replace")
                with patched as mocked, self.assertRaises(KeyboardInterrupt):
                    if n_whole is None:
                        mocked.side_effect = interrupt
                    run.log({"k": images})
                self.assertTrue(run.log({"after": Image(GRAY)}))
                with open(self.logs()[0]) as file:
                    text = file.read()
                named = set(re.findall(r'tensors/([^"]*)"', text))
                self.assertEqual(text.count('"time"'), 2 + (n_whole or 0))
                self.assertEqual(set(self.dumps()), named)

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
