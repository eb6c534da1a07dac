"""Images that a thread writes: `Run(…, background=True)`, `flush`, and `Image(…, donate=True)`."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import unittest
import weakref
from typing import Any
from unittest import mock

from case import GRAY, PACKAGE, Case, in_fork, read_npy
from live import installed

from safelight import Image, Run, _writer

numpy: Any = installed("numpy")
torch: Any = installed("torch")


def log_some(run: Run, key: str, n: int) -> None:
    for i in range(n):
        run.log({key: Image([[i]])})


class BackgroundTest(Case):
    def setUp(self) -> None:
        super().setUp()
        # Set to hold up the thread that writes.
        self.gate = threading.Event()
        self.gate.set()

    def late_run(self, **options: Any) -> Run:
        """Returns a run whose thread waits for the gate."""
        run = Run(self.dir, background=True, **options)
        write = run._files.write

        def wait_and_write(entries: Any) -> Any:
            self.gate.wait()
            return write(entries)

        self.addCleanup(self.gate.set)
        run._files.write = wait_and_write  # type: ignore[method-assign]
        return run

    def values(self, key: str) -> list[int]:
        lines = [line for line in self.lines() if line.get("key") == key]
        return [struct.unpack("<q", read_npy(self.path(line["data"])).elements)[0] for line in lines]

    def test_all_is_written_in_order(self) -> None:
        run = Run(self.dir, strict=True, background=True)
        log_some(run, "k", 200)
        self.assertIs(run.flush(), True)
        self.assertEqual(self.values("k"), list(range(200)))
        self.assertEqual([line["step"] for line in self.lines()], list(range(200)))
        run.log({"after": Image(GRAY)})
        run.finish()
        self.assertEqual(self.lines()[-2]["key"], "after")
        self.assertEqual(self.lines()[-1], {"finish": True})

    def test_log_does_not_wait(self) -> None:
        run = self.late_run(strict=True)
        self.gate.clear()
        log_some(run, "k", 3)
        self.assertEqual(self.logs(), [])
        self.assertIs(run.flush(0.05), False)
        self.gate.set()
        self.assertIs(run.flush(30), True)
        self.assertEqual(self.values("k"), [0, 1, 2])

    def test_times_are_those_of_log(self) -> None:
        run = self.late_run()
        self.gate.clear()
        run.log({"k": Image(GRAY)})
        time.sleep(0.05)
        after = time.time()
        self.gate.set()
        run.flush()
        self.assertLess(self.lines()[0]["time"], after)

    def test_a_full_queue_waits(self) -> None:
        run = self.late_run(strict=True, queue_bytes=1000)
        self.gate.clear()
        done = threading.Event()

        def work() -> None:
            # One that is larger than the queue is accepted if there is nothing else.
            run.log({"k": Image([[0] * 500])})
            run.log({"k": Image([[1]])})
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        self.assertIs(done.wait(0.1), False)
        self.gate.set()
        thread.join()
        run.flush()
        self.assertEqual(len(self.lines()), 2)

    def test_what_is_wrong_is_told_by_log(self) -> None:
        run = self.late_run()
        self.gate.clear()
        self.assertIs(run.log({"a": Image(None), "": Image(GRAY), "k": Image(GRAY, masks=3)}), False)
        self.assertEqual(len(self.warnings), 3)
        self.gate.set()
        self.assertIs(run.flush(), True)
        self.assertEqual([line["key"] for line in self.lines()], ["k"])

    def test_what_cannot_be_written_is_told_by_flush_and_once(self) -> None:
        run = Run(self.dir, background=True)
        self.limit_files(4096)
        self.assertIs(run.log({"large": Image([[0] * 1000]), "small": Image(GRAY)}), True)
        self.assertIs(run.flush(), False)
        self.assertIs(run.flush(), True)
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("large is not logged: OSError", self.warnings[0])
        self.assertEqual([line["key"] for line in self.lines()], ["small"])

    def test_a_strict_run_raises_it_later(self) -> None:
        for what in ("log", "flush", "finish", "image"):
            run = Run(os.path.join(self.dir, what), background=True, strict=True)
            with mock.patch("os.replace", side_effect=OSError(28, "No space left on device")):
                self.assertIs(run.log({"k": Image(GRAY)}), True)
                run._writer.flush()
            with self.assertRaisesRegex(OSError, "No space left"):
                if what == "log":
                    run.log({"k": Image(GRAY)})
                elif what == "image":
                    run._log_image("k", 1, Image(GRAY))
                else:
                    getattr(run, what)()
            run.finish()

    def test_a_strict_run_tells_it_once(self) -> None:
        run = Run(self.dir, background=True, strict=True)
        with mock.patch("os.replace", side_effect=OSError(28, "No space left on device")):
            run.log({"k": Image(GRAY)})
            run._writer.flush()
        with self.assertRaisesRegex(OSError, "No space left"):
            run.flush()
        self.assertIs(run.flush(), True)

    def test_a_handler_that_raises_does_not_end_the_thread(self) -> None:
        # Regression: `flush` and the end of the process waited for ever.
        for error in (RuntimeError("no logging"), SystemExit(3)):
            handler = logging.Handler()
            handler.emit = mock.Mock(side_effect=error)  # type: ignore[method-assign]
            logger = logging.getLogger("safelight")
            logger.addHandler(handler)
            self.addCleanup(logger.removeHandler, handler)
            run = self.late_run()
            self.gate.clear()
            image = Image(GRAY)
            run.log({"k": Image([[0]])})
            run.log({"failed": image})
            run.log({"k": Image([[1]])})
            image._dump = None  # type: ignore[assignment]
            self.gate.set()
            self.assertIs(run.flush(20), False)
            self.assertEqual(handler.emit.call_count, 1)
            self.assertEqual(self.values("k")[-2:], [0, 1])
            logger.removeHandler(handler)

    def test_a_with_block_waits(self) -> None:
        with Run(self.dir, background=True) as run:
            log_some(run, "k", 50)
        self.assertEqual(len(self.values("k")), 50)
        with self.assertRaises(ZeroDivisionError), Run(self.dir, background=True) as run:
            log_some(run, "failed", 50)
            raise ZeroDivisionError
        self.assertEqual(len(self.values("failed")), 50)

    def test_a_run_that_is_dropped_is_written(self) -> None:
        run = self.late_run()
        self.gate.clear()
        log_some(run, "k", 50)
        writer, reference = run._writer, weakref.ref(run)
        del run
        self.gate.set()
        self.assertIs(writer.flush(20), True)
        self.assertEqual(self.values("k"), list(range(50)))
        gc.collect()
        self.assertIsNone(reference())

    def test_the_end_of_the_process_waits(self) -> None:
        code = (
            "import atexit, sys; sys.path.insert(0, sys.argv[1])\n"
            "def last():\n"
            "    run.log({'last': Image([[1]])})\n"
            "atexit.register(last)\n"
            "from safelight import Image, Run\n"
            "run = Run(sys.argv[2], strict=True, background=True)\n"
            "for i in range(300): run.log({'k': Image([[i]])})\n"
        )
        subprocess.run([sys.executable, "-c", code, PACKAGE, self.dir], check=True)
        self.assertEqual(self.values("k"), list(range(300)))
        self.assertEqual(self.values("last"), [1])

    def test_processes_of_multiprocessing_wait(self) -> None:
        run = Run(self.dir, strict=True, background=True)
        run.log({"parent": Image([[0]])})
        for method in ("fork", "spawn"):
            child = multiprocessing.get_context(method).Process(target=log_some, args=(run, method, 100))
            child.start()
            child.join()
            self.assertEqual((child.exitcode, self.values(method)), (0, list(range(100))))

    def test_a_fork_drops_its_copy_of_the_queue(self) -> None:
        run = self.late_run(strict=True)
        self.gate.clear()
        log_some(run, "parent", 5)

        def work() -> None:
            signal.alarm(20)
            log_some(run, "child", 5)
            self.assertIs(run.flush(), True)

        self.assertEqual(in_fork(work), 0)
        self.assertEqual((self.values("parent"), len(self.values("child"))), ([], 5))
        self.gate.set()
        run.flush()
        self.assertEqual(self.values("parent"), list(range(5)))

    def test_what_was_flushed_outlives_a_kill(self) -> None:
        code = (
            "import os, sys; sys.path.insert(0, sys.argv[1]); from safelight import Image, Run\n"
            "run = Run(sys.argv[2], strict=True, background=True)\n"
            "for i in range(20): run.log({'k': Image([[i]])})\n"
            "assert run.flush()\n"
            "os.kill(os.getpid(), 9)\n"
        )
        ran = subprocess.run([sys.executable, "-c", code, PACKAGE, self.dir])
        self.assertEqual((ran.returncode, self.values("k")), (-9, list(range(20))))

    def test_threads(self) -> None:
        run = Run(self.dir, strict=True, background=True, queue_bytes=2000)
        threads = [threading.Thread(target=log_some, args=(run, f"k{i}", 100)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.flush()
        for i in range(8):
            self.assertEqual(self.values(f"k{i}"), list(range(100)))

    def test_the_thread_ends_when_there_is_nothing_to_write(self) -> None:
        with mock.patch.object(_writer, "_IDLE_S", 0.05):
            run = Run(self.dir, strict=True, background=True)
            for n in range(1, 4):
                run.log({"k": Image(GRAY)})
                self.assertIs(run.flush(), True)
                thread = run._writer._thread
                if thread is not None:
                    thread.join(20)
                self.assertIsNone(run._writer._thread)
                self.assertEqual(len(self.lines()), n)

    def test_without_a_thread_log_writes_by_itself(self) -> None:
        run = Run(self.dir, strict=True, background=True)
        with mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
            self.assertIs(run.log({"k": Image(GRAY)}), True)
        self.assertEqual(len(self.lines()), 1)

    def test_logs_after_the_end_are_refused(self) -> None:
        run = Run(self.dir, background=True)
        run.log({"k": Image(GRAY)})
        run.finish()
        self.assertIs(run.log({"k": Image(GRAY)}), False)
        self.assertIn("the run is finished", self.warnings[0])

    def test_a_signal_may_log_while_its_thread_does(self) -> None:
        run = Run(self.dir, strict=True, background=True, queue_bytes=500)
        with self.signals_that_log(run) as logged:
            log_some(run, "k", 300)
        # Regression: a signal could come into the middle of a count, and `flush` returned before all was written.
        run.flush()
        self.assertEqual(self.values("k"), list(range(300)))
        self.assertEqual(sorted(self.values("signal")), logged)
        self.assertGreater(len(logged), 0)


@unittest.skipUnless(numpy, "numpy is not installed")
class DonateTest(Case):
    def test_arrays_are_not_copied(self) -> None:
        values = numpy.zeros((300, 400, 3), "f4")
        mask = numpy.zeros((300, 400), "i8")
        run = Run(self.dir, strict=True)
        image = Image(values, donate=True, masks={"m": {"mask_data": mask}})
        # Nobody should do this. It shows whose memory is written.
        values[:], mask[:] = 1, 2
        run.log({"k": image})
        (line,) = self.lines()
        self.assertEqual(read_npy(self.path(line["data"])).elements, values.tobytes())
        got = read_npy(self.path(line["masks"]["m"]["mask_data"]))
        self.assertEqual(got.elements, mask.tobytes())

    def test_without_it_they_are(self) -> None:
        for options in ({}, {"donate": False}, {"donate": False, "caption": "c"}):
            for shape in ((2, 2), (600, 600)):
                values = numpy.zeros(shape, "f8")
                run = Run(self.dir, strict=True, background=True)
                image = Image(values, **options)
                values[:] = 9
                run.log({"k": image})
                run.flush()
                elements = read_npy(self.path(self.lines()[-1]["data"])).elements
                self.assertEqual(elements, bytes(values.nbytes))

    def test_arrays_in_another_order_are_copied(self) -> None:
        for values in (numpy.zeros((40, 30)).T, numpy.zeros((40, 30))[::2], numpy.zeros((40, 30))[:, ::-1]):
            values[:] = numpy.arange(values.size).reshape(values.shape)
            want = values.tobytes()
            image = Image(values, donate=True)
            values[:] = 0
            Run(self.dir, strict=True).log({"k": image})
            self.assertEqual(read_npy(self.path(self.lines()[-1]["data"])).elements, want)

    def test_another_byte_order_is_no_other_order(self) -> None:
        values = numpy.arange(12, dtype=">f4").reshape(4, 3)
        Run(self.dir, strict=True).log({"k": Image(values, donate=True)})
        got = read_npy(self.path(self.lines()[-1]["data"]))
        self.assertEqual((got.descr, got.elements), (">f4", values.tobytes()))

    def test_its_memory_is_freed_once_it_is_written(self) -> None:
        class Array(numpy.ndarray):  # type: ignore[misc]
            pass

        freed = []
        run = Run(self.dir, strict=True, background=True)
        values = numpy.zeros((50, 50)).view(Array)
        weakref.finalize(values, freed.append, True)
        run.log({"k": Image(values, donate=True)})
        run.flush()
        del values
        gc.collect()
        self.assertEqual(freed, [True])

    @unittest.skipUnless(torch, "torch is not installed")
    def test_tensors_are_not_copied(self) -> None:
        for dtype in (torch.float32, torch.bfloat16, torch.uint8):
            tensor = torch.zeros(3, 4, 5, dtype=dtype)
            image = Image(tensor, donate=True)
            tensor.fill_(1)
            run = Run(self.dir, strict=True)
            run.log({"k": image})
            data = self.lines()[-1]["data"]
            with open(self.path(data if isinstance(data, str) else data["path"]), "rb") as file:
                self.assertTrue(file.read().endswith(tensor.view(torch.uint8).numpy().tobytes()))


if __name__ == "__main__":
    unittest.main()
