"""`safelight.ray.backfill` with the real Ray and a real S3, while workers, programs and drivers are killed.

    SAFELIGHT_PROGRAM=target/debug/safelight SAFELIGHT_WEED=… python python/tests/fleet/backfill_ray.py [--runs 40]
        [--side 64] [--only NAME]

Runs in a network namespace of its own, because Ray listens on all interfaces. Needs the right to make one: root, or
user namespaces. Prints for each case the time and the kills, and fails unless each item is in the store exactly once.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import ctypes
import fcntl
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Iterator

import numpy

HERE = pathlib.Path(__file__).resolve()
KEYS = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "SKTESTSKTEST", "AWS_REGION": "us-east-1"}

# A run has a batch of which 12 are over the limit of 108, and single pictures.
BATCH, SINGLE, HELD = 120, 40, 12

DRIVER = """
import json, sys
import ray
import safelight.ray
sys.excepthook = sys.__excepthook__
uris, config, scratch, workers = json.loads(sys.argv[1])
ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
rows = safelight.ray.backfill(uris, config, target="fleet", workers=workers, scratch=scratch)
print(json.dumps(rows))
"""


def enter_namespace() -> None:
    """Runs this script again in a network namespace of its own, whose loopback is up."""
    if os.environ.get("SAFELIGHT_IN_NAMESPACE"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
            up = struct.pack("16sh", b"lo", 1)  # IFF_UP
            fcntl.ioctl(ask, 0x8914, up)  # SIOCSIFFLAGS
        return
    flags = ["-n"] if os.getuid() == 0 else ["-rn"]
    environment = {**os.environ, "SAFELIGHT_IN_NAMESPACE": "1"}
    os.execvpe("unshare", ["unshare", *flags, sys.executable, *sys.argv], environment)


def write_archive(folder: pathlib.Path, n_runs: int, side: int) -> int:
    """Writes run directories. Returns their size in bytes."""
    noise = numpy.random.default_rng(7)
    for run in range(n_runs):
        dumps = folder / f"exp{run:02}" / "dumps" / "val"
        (dumps / "batch").mkdir(parents=True)
        (dumps / "pred").mkdir()
        lines = []
        # Each picture is another one, so that an object stands for an item.
        batch = noise.integers(0, 64, (BATCH, side, side, 3), numpy.uint8)
        numpy.save(dumps / "batch" / "1.npy", batch)
        for step in range(SINGLE):
            picture = noise.integers(0, 64, (side, side, 3), numpy.uint8)
            path = dumps.parent / f"line{step}.npy"
            numpy.save(path, picture)
            lines.append({"key": "line", "step": step, "data": f"dumps/line{step}.npy"})
        log = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"exp{run:02}" / "train.media.jsonl").write_text(log)
    return sum(path.stat().st_size for path in folder.rglob("*.npy"))


def descendants() -> dict[int, str]:
    """Processes below this one, each with its command line."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry)] = int(fields[1])
    found: dict[int, str] = {}
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and pid != above:
            try:
                found[pid] = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                pass
    return found


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


class Killer(threading.Thread):
    """Kills Ray's workers and the programs that they run, so often, until it is stopped."""

    def __init__(self, pause: float, n_kills: int) -> None:
        super().__init__(daemon=True)
        self.pause, self.n_kills, self.is_over = pause, n_kills, threading.Event()
        self.killed: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        luck = random.Random(11)
        # Without a limit, a slow machine would make no progress.
        while self.killed.total() < self.n_kills and not self.is_over.wait(self.pause * luck.uniform(0.5, 1.5)):
            commands = descendants()
            workers = [pid for pid, command in commands.items() if command.startswith("ray::") and "Map" in command]
            programs = [pid for pid, command in commands.items() if " backfill " in command and " --json" in command]
            kind, pids = luck.choice([("worker", workers), ("program", programs)])
            if pids and kill(luck.choice(pids)):
                self.killed[kind] += 1

    def stop(self) -> collections.Counter[str]:
        self.is_over.set()
        self.join()
        return self.killed


class Scene:
    """SeaweedFS, an archive, and targets in it."""

    def __init__(self, folder: pathlib.Path, args: argparse.Namespace) -> None:
        self.folder, self.args = folder, args
        self.archive = folder / "archive"
        self.port = 8333
        # SeaweedFS takes flags from variables.
        plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        command = [os.environ["SAFELIGHT_WEED"], "mini", f"-dir={folder}/weed", "-ip=127.0.0.1"]
        command += ["-ip.bind=127.0.0.1", "-bucket=media", "-master.telemetry=false", "-webdav=false"]
        command += ["-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.port={self.port}"]
        (folder / "weed").mkdir()
        log = open(folder / "weed.log", "wb")
        self.weed = subprocess.Popen(command, env={**plain, **KEYS}, stdout=log, stderr=log)
        self.environment = {
            **plain,
            **KEYS,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
            "HOME": str(folder),  # Ray writes ~/.ray/auth_token.
            "RAY_TMPDIR": str(folder / "r"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(HERE.parents[2]),
            "SAFELIGHT_PROGRAM": str(pathlib.Path(os.environ["SAFELIGHT_PROGRAM"]).resolve()),
        }
        os.environ.update(self.environment)
        self.wait_for_s3()

    def store(self, prefix: str) -> Any:
        from obstore.store import from_url

        return from_url(f"s3://media/{prefix}", client_options={"allow_http": True})

    def wait_for_s3(self) -> None:
        import obstore

        for _ in range(600):
            try:
                obstore.put(self.store("ready"), "ready", b"ready")
                return
            except Exception:  # It is starting.
                time.sleep(0.2)
        raise TimeoutError((self.folder / "weed.log").read_text()[-2000:])

    def upload(self) -> list[str]:
        """Copies the archive into the store. Returns the addresses of the runs."""
        import obstore

        store = self.store("arch")
        files = [path for path in self.archive.rglob("*") if path.is_file()]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda path: obstore.put(store, str(path.relative_to(self.archive)), path), files):
                pass
        return [f"s3://media/arch/{run.name}" for run in sorted(self.archive.iterdir())]

    def config(self, case: str) -> pathlib.Path:
        """Writes a configuration with a target of its own."""
        config = self.folder / f"{case}.toml"
        config.write_text(
            f'[sync.fleet]\nkind = "object_store"\nurl = "s3://media/{case}"\n'
            f'endpoint = "http://127.0.0.1:{self.port}"\n[work]\nthreads = 1\n'
        )
        return config

    def start(self, case: str, uris: list[str]) -> subprocess.Popen[str]:
        """Starts a driver that backfills to a target of its own."""
        config = self.config(case)
        about = json.dumps([uris, str(config), str(self.folder / f"scratch-{case}"), self.args.workers])
        log = open(self.folder / f"{case}.log", "ab")
        return subprocess.Popen([sys.executable, "-c", DRIVER, about], stdout=subprocess.PIPE, stderr=log, text=True)

    def rows(self, driver: subprocess.Popen[str], case: str) -> list[dict[str, Any]]:
        out, _ = driver.communicate()
        assert driver.returncode == 0, (self.folder / f"{case}.log").read_text()[-4000:]
        # Ray prints what its workers say between the driver's lines, and after them.
        printed = [line for line in out.splitlines() if line.startswith("[{")]
        assert len(printed) == 1, f"the driver printed {out[-2000:]!r}"
        rows: list[dict[str, Any]] = json.loads(printed[0])
        failed = [row for row in rows if row["error"]]
        assert not failed, failed
        return rows

    def n_markers(self, case: str) -> int:
        """The number of runs that are done."""
        import obstore

        pages = obstore.list(self.store(f"{case}/runs"))
        return sum(item["path"].endswith("/backfilled.json") for page in pages for item in page)

    def check(self, case: str) -> str:
        """Checks that each item is in the store exactly once. Returns the counts in words."""
        import obstore

        store = self.store(case)
        names = [item["path"] for page in obstore.list(store) for item in page]
        states: collections.Counter[str] = collections.Counter()
        objects, places = set(), set()
        for name in names:
            if name.startswith("runs/") and name.endswith(".jsonl"):
                for text in bytes(obstore.get(store, name).bytes()).splitlines():
                    line = json.loads(text)
                    states[line["state"]] += 1
                    places.add((name.split("/")[2], line["seq"], line["key"], line["step"], line["index"]))
                    objects |= {line["object"]} if line["state"] == "image" else set()
        media = {name for name in names if name.startswith("media/")}
        markers = [name for name in names if name.endswith("/backfilled.json")]
        n_runs = self.args.runs
        want = {"image": (BATCH + SINGLE - HELD) * n_runs, "held": HELD * n_runs}
        assert dict(states) == want, (states, want)
        assert len(places) == sum(want.values()), "a line is there twice"
        assert media == objects and len(objects) == want["image"], (len(media - objects), len(objects - media))
        assert len(markers) == n_runs, len(markers)
        return f"{want['image']:,} images and {want['held']:,} held, each once; none missing, none stray"

    def kill_all(self) -> None:
        """Kills what a killed driver has left, and nothing that others started."""
        for _ in range(100):
            left = [pid for pid in descendants() if pid != self.weed.pid]
            if not left:
                return
            for pid in left:
                kill(pid)
            while True:
                # The killed ones are children of this process, which takes in orphans.
                try:
                    pid, _ = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
            time.sleep(0.05)

    def xargs(self, case: str, *command: str) -> None:
        """Runs the program once for each run directory, so many at a time as there are workers."""
        runs = sorted(run.name for run in self.archive.iterdir())
        xargs = ["xargs", "-P", str(self.args.workers), "-I{}", os.environ["SAFELIGHT_PROGRAM"], *command]
        with open(self.folder / f"{case}.log", "wb") as log:
            names = "\n".join(runs)
            done = subprocess.run(xargs, input=names, stdout=log, stderr=log, text=True, cwd=self.folder)
        assert done.returncode == 0, (self.folder / f"{case}.log").read_text()[-4000:]

    def xargs_without_delivery(self) -> str:
        """`ingest` of each run into a store of its own."""
        for run in self.archive.iterdir():
            config = f'[store]\npath = "{self.folder}/stores/{run.name}"\n[work]\nthreads = 1\n'
            (self.folder / f"{run.name}.toml").write_text(config)
        (self.folder / "stores").mkdir()
        self.xargs("stores", "ingest", "archive/{}", "--config", "{}.toml")
        return "done"

    def xargs_to_s3(self) -> str:
        config, scratch = str(self.config("xargs")), str(self.folder / "scratch-xargs")
        self.xargs("xargs", "backfill", "archive/{}", "--config", config, "--target", "fleet", "--scratch", scratch)
        return self.check("xargs")

    def from_directories(self) -> str:
        driver = self.start("dirs", [str(run) for run in sorted(self.archive.iterdir())])
        rows = self.rows(driver, "dirs")
        return f"{self.check('dirs')}; {len({row['run'] for row in rows})} runs"

    def from_s3_with_kills(self) -> str:
        driver = self.start("kills", self.upload())
        killer = Killer(self.args.pause, self.args.kills)
        killer.start()
        try:
            rows = self.rows(driver, "kills")
        finally:
            killed = killer.stop()
        assert killed["worker"] and killed["program"], killed
        left = sum(path.is_file() for path in (self.folder / "scratch-kills").rglob("*"))
        seen = sum(row["kills"] for row in rows)
        return f"{self.check('kills')}; killed {dict(killed)}, {seen} seen by rows; files left in scratch: {left}"

    def driver_killed(self) -> str:
        uris = self.upload()
        # In the midst of the work, however slow the machine is: when some of the runs have their markers.
        for n_done in (max(1, len(uris) // 4), max(2, len(uris) // 2)):
            driver = self.start("driver", uris)
            while self.n_markers("driver") < n_done:
                assert driver.poll() is None, "the driver was done before the kill"
                time.sleep(0.2)
            driver.kill()
            driver.wait()
            self.kill_all()
        begun = time.monotonic()
        rows = self.rows(self.start("driver", uris), "driver")
        status = collections.Counter(row["status"] for row in rows)
        assert status["skipped"], "the killed drivers had done nothing"
        text = f"{self.check('driver')}; last driver {time.monotonic() - begun:.1f} s: {dict(status)}"
        again = collections.Counter(row["status"] for row in self.rows(self.start("driver", uris), "driver"))
        assert again == {"skipped": len(uris)}, again
        return text

    def errors_are_rows(self) -> str:
        missing = [f"s3://media/arch/none{n}" for n in range(3)] + ["/nonexistent/run"]
        driver = self.start("errors", missing + [str(self.archive / "exp00")])
        out, _ = driver.communicate()
        rows = json.loads(out.splitlines()[-1])
        errors = [row["error"] for row in rows if row["error"]]
        assert len(rows) == 5 and len(errors) == 4, rows
        return f"4 of 5 runs failed, by rows: {errors[0]!r}"

    def cases(self) -> Iterator[tuple[str, Any]]:
        yield "xargs, without delivery", self.xargs_without_delivery
        yield "xargs, directories to S3", self.xargs_to_s3
        yield "directories to S3", self.from_directories
        yield "S3 to S3, workers and programs killed", self.from_s3_with_kills
        yield "driver killed", self.driver_killed
        yield "errors", self.errors_are_rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--kills", type=int, default=16)
    parser.add_argument("--only", help="a part of the case's name")
    args = parser.parse_args()
    enter_namespace()
    # What was started is ended by `finally` below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Processes of a killed driver become children of this one.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    # Short, because Ray makes sockets below it.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ray"))
    scene = None
    try:
        (folder / "archive").mkdir()
        n_bytes = write_archive(folder / "archive", args.runs, args.side)
        print(f"{args.runs} runs, {n_bytes / 1e6:.0f} MB, {args.workers} workers", flush=True)
        scene = Scene(folder, args)
        for name, case in scene.cases():
            if args.only and args.only not in name:
                continue
            start = time.monotonic()
            said = case()
            print(f"{name}: {time.monotonic() - start:.1f} s: {said}", flush=True)
        print("OK")
    finally:
        if scene:
            scene.kill_all()
            scene.weed.kill()
            scene.weed.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
