"""Tests of runs that several processes, threads or attempts share."""

from __future__ import annotations

import copy
import errno
import glob
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from typing import Any
from unittest import mock

from case import GRAY, PACKAGE, Case, in_fork, read_npy

from safelight import Image, Run, _media_log


def log_many(directory: str, name: str, n: int) -> None:
    run = Run(directory, strict=True)
    for i in range(n):
        run.log({name: Image([[i]])})


def log_sent(run: Run) -> None:
    """Checks that a run is as it was in the process that sent it, and logs an image."""
    assert (run.rank, run.strict, run._limits["batch_max"]) == (2, True, 8), run
    run.log({"sent": Image([[0]])})


class SessionTest(Case):
    """The first line of each log: which attempt of the job, which rank."""

    def session(self, environment: dict[str, str], **options: Any) -> str:
        with mock.patch.dict(os.environ, environment, clear=True):
            run = Run(tempfile.mkdtemp(dir=self.folder), strict=True, **options)
            run.log({"k": Image(GRAY)})
        with open(glob.glob(os.path.join(run.dir, "*.media.jsonl"))[0]) as file:
            first = json.loads(file.readline())
        self.assertEqual(first, {"session": run.session, "rank": run.rank})
        session: str = first["session"]
        return session

    def test_the_launcher_says_it(self) -> None:
        elastic = {"TORCHELASTIC_RUN_ID": "job", "TORCHELASTIC_RESTART_COUNT": "2", "RANK": "3"}
        slurm = {"SLURM_JOB_ID": "71", "SLURM_STEP_ID": "0", "SLURM_PROCID": "4"}
        for environment, options, want in [
            (elastic, {}, "torchelastic-job-2"),
            (slurm, {}, "slurm-71-0-0"),
            ({**slurm, "SLURM_RESTART_COUNT": "1"}, {}, "slurm-71-0-1"),
            ({**slurm, **elastic}, {}, "torchelastic-job-2"),
            ({"PMIX_NAMESPACE": "n@1"}, {}, "mpi-n@1"),
            ({**elastic, "SAFELIGHT_SESSION": "mine"}, {}, "mine"),
            ({"SAFELIGHT_SESSION": "mine"}, {"session": "é, given"}, "é, given"),
            ({"SAFELIGHT_SESSION": "é" * 300}, {}, "é" * 128),
        ]:
            self.assertEqual(self.session(environment, **options), want)
        for session in ("", 7, "é" * 129):
            with self.assertRaisesRegex(ValueError, "got session"):
                Run(self.dir, session=session)  # type: ignore[arg-type]

    def test_a_launch_without_an_id_is_its_agent(self) -> None:
        none = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"}
        session = self.session(none)
        self.assertRegex(session, rf"^torchelastic-.+-{os.getppid()}-\d+-0$")
        self.assertEqual(self.session(none), session)
        self.assertNotEqual(self.session({**none, "TORCHELASTIC_RESTART_COUNT": "1"}), session)

    def test_a_step_of_slurm_is_needed(self) -> None:
        self.assertEqual(self.session({"SLURM_JOB_ID": "7"}), self.session({}))

    def run_processes(self, code: str, n: int, at_once: bool) -> None:
        start = "import sys, time; sys.path.insert(0, sys.argv[1]); import safelight;"
        start += "run = safelight.Run(sys.argv[2], strict=True);"
        environment = {name: value for name, value in os.environ.items() if "SLURM" not in name}
        processes = []
        for _ in range(n):
            command = [sys.executable, "-c", start + code, PACKAGE, self.dir]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            processes.append(process)
            assert process.stdout is not None
            if at_once:
                process.stdout.read(1)
            else:
                process.communicate()
        for process in processes:
            if at_once:
                process.communicate()
            self.assertEqual(process.returncode, 0)

    CODE = "run.log({'k': safelight.Image([[1]])}); print('x', end='', flush=True); sys.stdin.read()"

    def test_processes_one_after_another_are_attempts(self) -> None:
        self.run_processes(self.CODE, 3, at_once=False)
        sessions = [header["session"] for header in self.headers()]
        self.assertEqual((len(set(sessions)), len(self.logs())), (3, 3))
        self.assertEqual([line["key"] for line in self.lines()], ["k"] * 3)

    def test_processes_at_the_same_time_are_one_attempt(self) -> None:
        self.run_processes(self.CODE, 3, at_once=True)
        sessions = [header["session"] for header in self.headers()]
        self.assertEqual((len(set(sessions)), len(sessions)), (1, 3))

    def test_forks_and_children_of_multiprocessing_are_one_attempt(self) -> None:
        run = Run(self.dir, strict=True)
        self.assertEqual(in_fork(lambda: run.log({"fork": Image(GRAY)})), 0)
        run.log({"parent": Image(GRAY)})
        self.assertEqual(in_fork(lambda: log_many(self.dir, "new", 1)), 0)
        spawn = multiprocessing.get_context("spawn")
        child = spawn.Process(target=log_many, args=(os.path.join(self.folder, "other"), "spawned", 1))
        child.start()
        child.join()
        self.assertEqual(child.exitcode, 0)
        with open(glob.glob(os.path.join(self.folder, "other", "*.media.jsonl"))[0]) as file:
            spawned = json.loads(file.readline())
        sessions = {header["session"] for header in [*self.headers(), spawned]}
        self.assertEqual(len(sessions), 1)

    def test_a_log_of_another_host_that_changes_has_a_writer(self) -> None:
        os.makedirs(self.dir)
        name = self.path("rank0-other.host-0.media.jsonl")
        with open(name, "w") as file:
            file.write('{"session":"theirs","rank":0}\n{"key":"k"}\n')
        run = Run(self.dir, strict=True)
        run.log({"k": Image(GRAY)})
        self.assertEqual(run.session, "theirs")
        os.utime(name, (1, 1))
        run = Run(self.dir, strict=True, rank=1)
        run.log({"k": Image(GRAY)})
        self.assertNotEqual(run.session, "theirs")
        shutil.rmtree(self.dir)

    def test_a_log_of_another_session_is_left_alone(self) -> None:
        for session in ("a", "b", "a"):
            run = Run(self.dir, strict=True, session=session)
            run.log({session: Image(GRAY)})
            run._close()
        self.assertEqual([header["session"] for header in self.headers()], ["a", "b"])
        self.assertEqual([line["key"] for line in self.lines()], ["a", "a", "b"])

    def test_a_log_of_another_session_is_not_locked(self) -> None:
        """Bug: two forks that began at the same time could each take the other's look at an old log for a writer of
        that session. Their images then counted as those of an earlier attempt, and were replaced."""
        for session in ("old", "new"):
            with mock.patch.object(_media_log, "lock", wraps=_media_log.lock) as lock:
                run = Run(self.folder, strict=True, session=session)
                run.log({"k": Image(GRAY)})
                run.finish()
            self.assertEqual(lock.call_count, 1, session)
        self.assertEqual(len(glob.glob(os.path.join(self.folder, "*.media.jsonl"))), 2)

    def test_a_header_cut_short_is_written_again(self) -> None:
        for n_bytes in (5, 30):
            run = Run(os.path.join(self.dir, str(n_bytes)), session="s" * 20)
            image = Image([[1]])
            write = os.writev

            def cut(fd: int, parts: Any, n_bytes: int = n_bytes) -> int:
                if b"session" in bytes(parts[0]):
                    write(fd, [bytes(parts[0])[:n_bytes]])
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(fd, parts)

            with mock.patch("os.writev", cut):
                self.assertIs(run.log({"k": image}), False)
            self.assertIs(run.log({"k": image}), True)
            with open(glob.glob(os.path.join(run.dir, "*.media.jsonl"))[0]) as file:
                lines = [json.loads(line) for line in file]
            self.assertEqual([list(line)[0] for line in lines], ["session", "key"])


class SharingTest(Case):
    def check_many(self, names: dict[str, int]) -> None:
        """Checks that each line is complete, and that each dump exists once and holds its line's number."""
        lines = [line for line in self.lines() if "key" in line]
        for name, n in names.items():
            of_name = [line for line in lines if line["key"] == name]
            self.assertEqual(len(of_name), n, name)
            values = [struct.unpack("<q", read_npy(self.path(line["data"])).elements)[0] for line in of_name]
            self.assertEqual(values, list(range(n)), name)
        self.assertEqual(sorted(os.path.basename(line["data"]) for line in lines), self.dumps())

    def test_threads(self) -> None:
        run = Run(self.dir, strict=True)

        def work(name: str) -> None:
            for i in range(200):
                run.log({name: Image([[i]])}, step=i)

        threads = [threading.Thread(target=work, args=(f"thread{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.check_many({f"thread{i}": 200 for i in range(8)})
        self.assertEqual(len(self.logs()), 1)

    def test_threads_count_steps_together(self) -> None:
        run = Run(self.dir, strict=True)
        threads = [
            threading.Thread(target=lambda: [run.log({"k": Image(GRAY)}) for _ in range(50)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(line["step"] for line in self.lines()), list(range(400)))

    def test_a_fork_logs_on_in_a_log_of_its_own(self) -> None:
        run = Run(self.dir, strict=True)
        run.log({"parent": Image([[0]])})
        self.assertEqual(in_fork(lambda: run.log({"child": Image([[0]])})), 0)
        run.log({"parent": Image([[1]])})
        self.assertEqual(in_fork(lambda: run.log({"second": Image([[0]])})), 0)
        self.check_many({"parent": 2, "child": 1, "second": 1})
        # The second child reuses the log of the first, which is free again.
        self.assertEqual(len(self.logs()), 2)
        steps = [line["step"] for line in self.lines() if line["key"] == "child"]
        self.assertEqual(steps, [1])

    def test_a_fork_while_another_thread_holds_the_lock(self) -> None:
        run = Run(self.dir, strict=True)
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with run._lock, run._log._turn:
                held.set()
                done.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(done.set)
        held.wait()
        self.assertEqual(in_fork(lambda: (signal.alarm(20), run.log({"child": Image([[0]])}))), 0)
        self.check_many({"child": 1})

    def test_a_run_is_forgotten_by_forks(self) -> None:
        Run(self.dir)
        self.assertEqual(in_fork(lambda: None), 0)

    def test_a_run_may_be_sent_to_another_process(self) -> None:
        for method in ("spawn", "forkserver"):
            shutil.rmtree(self.dir, ignore_errors=True)
            context = multiprocessing.get_context(method)
            run = Run(self.dir, strict=True, rank=2, limits={"batch_max": 8})
            run.log({"parent": Image([[0]])})
            child = context.Process(target=log_sent, args=(run,))
            child.start()
            child.join()
            self.assertEqual(child.exitcode, 0)
            self.check_many({"parent": 1, "sent": 1})
            headers = self.headers()
            self.assertEqual((len(headers), headers[0]), (2, headers[1]))
            self.assertEqual([line["step"] for line in self.lines() if line["key"] == "sent"], [1])

    def test_a_copy_is_another_writer_of_the_same_session(self) -> None:
        run = Run(self.dir, strict=True)
        for other in (copy.copy(run), copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
            other.log({"k": Image([[0]])})
            self.assertEqual((other.session, other.dir), (run.session, run.dir))
        self.assertEqual([line["step"] for line in self.lines()], [0, 0, 0])
        run.finish()
        self.assertIs(pickle.loads(pickle.dumps(run))._is_finished, True)

    def test_many_processes(self) -> None:
        code = (
            "import sys; sys.path[:0] = sys.argv[1:3]; import test_sharing;"
            "test_sharing.log_many(sys.argv[3], sys.argv[4], 50)"
        )
        tests = os.path.dirname(os.path.abspath(__file__))
        processes = [
            subprocess.Popen([sys.executable, "-c", code, PACKAGE, tests, self.dir, f"process{i}"])
            for i in range(12)
        ]
        self.assertEqual([process.wait() for process in processes], [0] * 12)
        self.check_many({f"process{i}": 50 for i in range(12)})
        self.assertLessEqual(len(self.logs()), 12)

    def test_a_restart_reuses_a_log_that_is_free(self) -> None:
        for _ in range(5):
            self.assertEqual(in_fork(lambda: log_many(self.dir, "k", 1)), 0)
        self.assertEqual(len(self.logs()), 1)
        self.assertEqual(len(self.lines()), 5)

    def test_two_runs_of_one_process_have_two_logs(self) -> None:
        runs = [Run(self.dir, strict=True) for _ in range(2)]
        for run in runs:
            run.log({"k": Image(GRAY)})
        self.assertEqual(len(self.logs()), 2)

    def test_a_line_that_a_killed_writer_left_costs_no_other(self) -> None:
        log_many(self.dir, "k", 1)
        with open(self.logs()[0], "a") as file:
            file.write('{"key":"k","st')
        log_many(self.dir, "after", 1)
        with open(self.logs()[0]) as file:
            lines = file.read().split("\n")[1:]
        self.assertEqual(lines[1], '{"key":"k","st')
        self.assertEqual(json.loads(lines[2])["key"], "after")

    def test_more_writers_than_numbers(self) -> None:
        with mock.patch.object(_media_log, "_LOGS_MAX", 1):
            runs = [Run(self.dir, strict=True) for _ in range(3)]
            for run in runs:
                run.log({"k": Image(GRAY)})
        self.assertEqual(len(self.logs()), 3)

    def test_a_file_system_without_locks(self) -> None:
        with mock.patch("fcntl.flock", side_effect=OSError(38, "Function not implemented")):
            for _ in range(2):
                log_many(self.dir, "k", 1)
        self.assertEqual([os.path.getsize(path) > 0 for path in self.logs()], [False, True, True])

    def test_a_signal_may_log_while_its_thread_does(self) -> None:
        run = Run(self.dir, strict=True)
        with self.signals_that_log(run):
            for i in range(300):
                run.log({"k": Image([[i]])})
        keys = [line["key"] for line in self.lines()]
        self.assertEqual(keys.count("k"), 300)
        self.assertGreater(keys.count("signal"), 0)


if __name__ == "__main__":
    unittest.main()
