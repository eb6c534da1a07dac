"""Backfills archived run directories with Ray Data: `safelight backfill` on all workers of a cluster.

    import safelight.ray

    rows = safelight.ray.backfill(
        ["s3://arch/exp7", "s3://arch/exp8", "/mnt/archive/exp9"], "cluster.toml", target="fleet"
    )
    failed = [row for row in rows if row["error"]]

A run at `s3://`, `gs://` or `az://` is copied to a worker's disk and removed afterwards; any other is read where it
lies, so that all workers must see it at that path. The program keeps what it has made of a run in a scratch folder
until it is delivered. If a worker or the driver is killed, the same call goes on: nothing is delivered twice, and
runs that are done are left out before anything is copied. docs/backfill.md says what a kill at each step costs.

Needs `pip install 'safelight[ray]'` on the driver and the workers, and the program on the workers.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from typing import Any, Iterable, NamedTuple, Optional

from .__main__ import find_program

__all__ = ["backfill"]

# How often a program that a signal killed is started again for one run.
_KILLS_MAX = 5

# Parts into which the runs of a worker are divided. Tiny runs share a task, and no worker is left with many at the end.
_TASKS_PER_WORKER = 8

# Objects that are copied at the same time, and the bytes of one that are in memory.
_COPIES = 8
_CHUNK_BYTES = 8 << 20


class _Job(NamedTuple):
    """What all runs have in common."""

    config: str
    target: str
    box: Optional[str]
    root: Optional[str]
    scratch: str
    skip_done: bool


def backfill(
    uris: Iterable[str],
    config: str | os.PathLike[str],
    *,
    target: str,
    workers: int | None = None,
    box: str | None = None,
    root: str | None = None,
    scratch: str | None = None,
    skip_done: bool = True,
    **ray_options: Any,
) -> list[dict[str, Any]]:
    """Backfills runs and returns a row for each, in any order.

    `uris` are run directories: URLs, or paths that all workers see. `config` is a configuration file on the driver that
    has the object store `target`; it is copied to the workers, so that paths in it must be absolute. `workers` is the
    number of runs at the same time (default: the CPUs of the cluster). `box` is as in `safelight backfill`. With `root`,
    a run without an id is named by its path below `root`, such as `exp7/seed0`, else by its last part. `scratch` is a
    folder on each worker (default: `safelight-ray-UID` in the folder for temporary files). `ray_options`, such as
    `num_cpus=2`, go to `ray.data.Dataset.map`.

    A row has the fields of `safelight backfill --json` and `uri`, `error` (None if all is done), `kills` (how often the
    program was killed meanwhile) and `worker`. What fails is an error of its row, never an exception.
    """
    import ray

    uris = list(uris)
    if not ray.is_initialized():
        ray.init()
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    scratch = scratch or os.path.join(tempfile.gettempdir(), f"safelight-ray-{os.getuid()}")
    job = _Job(pathlib.Path(config).read_text(), target, box, root, scratch, skip_done)
    if not uris:
        return []
    n_tasks = min(len(uris), workers * _TASKS_PER_WORKER)
    runs = ray.data.from_items([{"uri": uri} for uri in uris], override_num_blocks=n_tasks)
    tasks = ray.data.TaskPoolStrategy(size=workers)
    rows = runs.map(lambda row: _row(row["uri"], job), compute=tasks, **ray_options)
    return [json.loads(row["json"]) for row in rows.iter_rows()]


def _row(uri: str, job: _Job) -> dict[str, str]:
    """Backfills one run. Rows are JSON, because columns of Arrow would need one type for all runs."""
    start = time.monotonic()
    row: dict[str, Any] = {"uri": uri, "status": "failed", "error": None, "kills": 0}
    try:
        _Backfill(uri, job, row).run()
    except Exception as error:  # A row of another run must not fail with it.
        row["error"] = f"{type(error).__name__}: {error}"
    row.update(seconds=time.monotonic() - start, worker=os.uname().nodename)
    return {"json": json.dumps(row)}


class _Backfill:
    """The backfill of one run on a worker."""

    def __init__(self, uri: str, job: _Job, row: dict[str, Any]) -> None:
        self.uri = uri.rstrip("/")
        self.job = job
        self.row = row
        self.name = self.uri.rsplit("/", 1)[-1]
        if job.root and self.uri.startswith(job.root.rstrip("/") + "/"):
            self.name = self.uri[len(job.root.rstrip("/")) + 1 :]
        os.makedirs(job.scratch, mode=0o700, exist_ok=True)
        if os.stat(job.scratch).st_uid != os.getuid():
            raise PermissionError(f"{job.scratch} belongs to another user: name another folder with scratch=")

    def run(self) -> None:
        skip = ["--skip-done"] if self.job.skip_done else []
        if "://" not in self.uri:
            self.program(self.uri, *skip)
            return
        # The same folder at each try, so that what was copied or made before is used.
        folder = os.path.join(self.job.scratch, "runs", hashlib.sha256(self.uri.encode()).hexdigest()[:32])
        copy = _Copy(self.uri, folder)
        options = ["--origin", self.uri, "--fingerprint", copy.fingerprint]
        os.makedirs(folder, exist_ok=True)
        try:
            if self.job.skip_done:
                # The id, which the program needs to find the marker.
                copy.fetch(only="safelight.json")
                if self.program(folder, "--dry-run", *options) or self.row["status"] == "skipped":
                    return
            copy.fetch()
            # The program that an earlier worker started may have ended meanwhile.
            self.program(folder, *options, *skip)
        finally:
            for place in (folder, copy.aside):
                shutil.rmtree(place, ignore_errors=True)

    def program(self, folder: str, *options: str) -> bool:
        """Runs the program on a run directory and takes its row. Returns whether it failed."""
        program = os.environ.get("SAFELIGHT_PROGRAM") or find_program()
        if not program:
            raise FileNotFoundError("the program safelight is not installed on this worker")
        job = self.job
        command = [program, "backfill", folder, "--json", "--config", self.config(), "--target", job.target]
        command += ["--scratch", os.path.join(job.scratch, "stores"), "--run", self.name]
        command += ["--box", job.box] if job.box else []
        command += options
        while True:
            ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if ran.returncode >= 0:
                break
            self.row["kills"] += 1
            if self.row["kills"] >= _KILLS_MAX:
                raise ChildProcessError(f"signal {-ran.returncode} killed the program {_KILLS_MAX} times")
        if not ran.stdout:
            raise ChildProcessError(f"exit code {ran.returncode}: {ran.stderr.strip()}")
        self.row.update(json.loads(ran.stdout))
        return self.row["error"] is not None

    def config(self) -> str:
        """Returns the path of the configuration on this worker."""
        text = self.job.config.encode()
        path = os.path.join(self.job.scratch, f"config-{hashlib.sha256(text).hexdigest()[:16]}.toml")
        if not os.path.isfile(path):
            _write(path, f"{path}.{os.getpid()}", [text])
        return path


class _Copy:
    """A copy of a run directory in an object store."""

    def __init__(self, uri: str, folder: str) -> None:
        """Lists the run's objects."""
        import obstore
        from obstore.store import from_url

        endpoints = (os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
        is_plain = any(endpoint.startswith("http:") for endpoint in endpoints)
        self.store = from_url(uri, client_options={"allow_http": True} if is_plain else None)
        self.folder = folder
        # Where objects are written until they are whole. The program reads only the folder.
        self.aside = f"{folder}.part"
        listed = [item for page in obstore.list(self.store) for item in page]
        # Some tools keep an empty object for a folder.
        listed = [item for item in listed if not item["path"].endswith("/")]
        if not listed:
            raise FileNotFoundError(f"no object lies below {uri}")
        # Name, size, and time in whole seconds, as the program rounds it.
        self.objects = [(item["path"], item["size"], int(item["last_modified"].timestamp())) for item in listed]

    @property
    def fingerprint(self) -> str:
        """The fingerprint that the program makes of the copy: src/cli/backfill/source.rs."""
        objects = sorted((path.encode(), size, seconds) for path, size, seconds in self.objects)
        lines = b"".join(b"%b\0%d\0%d\n" % item for item in objects)
        return hashlib.sha256(lines).hexdigest()[:32]

    def fetch(self, only: str | None = None) -> None:
        """Copies the objects that are not there yet, each with its time."""
        os.makedirs(self.aside, exist_ok=True)
        wanted = [item for item in self.objects if only in (None, item[0])]
        with concurrent.futures.ThreadPoolExecutor(_COPIES) as pool:
            # Raises the first error.
            for _ in pool.map(self._fetch_one, wanted):
                pass

    def _fetch_one(self, item: tuple[str, int, int]) -> None:
        path, size, seconds = item
        if ".." in path.split("/") or os.path.isabs(path):
            raise ValueError(f"got the object name {path!r}, want one that stays in its folder")
        to = os.path.join(self.folder, path)
        if os.path.isfile(to) and (os.path.getsize(to), int(os.path.getmtime(to))) == (size, seconds):
            return
        import obstore

        os.makedirs(os.path.dirname(to), exist_ok=True)
        aside = os.path.join(self.aside, hashlib.sha256(path.encode()).hexdigest())
        _write(to, aside, obstore.get(self.store, path).stream(min_chunk_size=_CHUNK_BYTES), seconds)


def _write(path: str, aside: str, chunks: Iterable[Any], seconds: int | None = None) -> None:
    """Writes a file whole or not at all, with this time of modification."""
    with open(aside, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
    if seconds is not None:
        os.utime(aside, (seconds, seconds))
    os.replace(aside, path)
