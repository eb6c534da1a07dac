"""Runs: a directory that a training logs images into."""

from __future__ import annotations

import functools
import math
import numbers
import os
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Mapping, Sequence

from ._batch import Entry, Problem, RunFiles
from ._checks import NOTHING, Checks
from ._files import set_folder
from ._identity import identity_of, merge_identity
from ._image import Image
from ._limits import LIMITS
from ._media_log import MediaLog
from ._process import has_threads, keep
from ._reports import Reports
from ._session import SESSION_BYTES_MAX, rank_of, session_of_launcher
from ._values import PassedOver, json_bytes, search, utf_8, whole_step
from ._writer import Writer

__all__ = ["Run"]

# A batch of images is written once it has more than this number of bytes, or this number of images.
_BATCH_BYTES = 1 << 20
_BATCH_MAX = 256


def _opened(kind: type[Run], dir: str, options: dict[str, Any], state: dict[str, Any]) -> Run:
    """Returns a run that another process sent to this one."""
    run = kind(dir, **options)
    run.__dict__.update(state)
    return run


class Run:
    """A run directory to log images into. Any number of processes and threads may share one.

    - `dir` is created if it does not exist.
    - `rank` is part of the log's name and of its first line. Default: the launcher's (`RANK`,
      `OMPI_COMM_WORLD_RANK`, `PMIX_RANK`, `LOCAL_RANK`, `SLURM_PROCID`), else 0.
    - `session` names this attempt of the job. Images of a later attempt replace those of an earlier one
      at the same rank, key and step, so give the same name to all processes of an attempt. Default: what
      the launcher says (`SAFELIGHT_SESSION`, torchrun, srun, mpirun); else that of a process which is
      writing in `dir` as the same rank; else a name of its own.
    - `strict`: failures are raised. Otherwise no `Exception` reaches the training, and each kind of
      failure is reported once, as a warning of the logger `safelight`. `KeyboardInterrupt` and its like
      always pass.
    - `limits`: the daemon's `[limits]` where they differ from the defaults, such as
      `{"pixels_max": 1 << 30}`. What the daemon would refuse is reported by `log`.
    - `background`: `log` only accepts images, and a thread writes them. `log` then returns `True` for what
      was accepted; `flush`, `finish` and the end of the process wait for the thread. A process that is killed
      loses what was accepted and not yet written. For CUDA tensors this is so in every run.
    - `queue_bytes`: how much may be accepted and not yet written. `log` waits while there is no room.
    - `pack`: whether small images of one `log` share a file.
    - `id`, `project`, `name`, `group`, `job_type`, `tags`, `config`, `entity` describe the run. They are merged into
      `safelight.json`, `config` entry by entry. The file is rewritten only if a value changes. `update` changes them
      later.

    A forked process may go on using the `Run` that it inherited, and a process that is sent one by pickle,
    such as a worker of a DataLoader, belongs to the same session. As a context manager, a run is finished
    when the block ends without an exception.

    Raises `TypeError` or `ValueError` for an invalid `dir`, `rank`, `session`, `limits` or `queue_bytes`, strict
    or not.
    """

    def __init__(
        self,
        dir: str | os.PathLike[str],
        *,
        rank: int | None = None,
        session: str | None = None,
        strict: bool = False,
        limits: Mapping[str, int] | None = None,
        background: bool = False,
        queue_bytes: int = 256 << 20,
        pack: bool = True,
        id: str | None = None,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] | None = None,
        config: Any = None,
        entity: str | None = None,
    ) -> None:
        # The training may change its working directory later.
        self.dir = os.path.abspath(os.fspath(dir))
        self.rank = rank_of(os.environ) if rank is None else int(rank)
        if not 0 <= self.rank < 1 << 32:
            raise ValueError(f"got rank {self.rank}, want a whole number from 0 to {(1 << 32) - 1}")
        if session is not None and not (
            isinstance(session, str) and 0 < len(utf_8(session)) <= SESSION_BYTES_MAX
        ):
            raise ValueError(f"got session {session!r:.64}, want a text of 1 to {SESSION_BYTES_MAX} bytes")
        self._dumps = os.path.join(self.dir, "tensors")
        self.strict = strict
        unknown = sorted(set(limits or {}) - set(LIMITS))
        if unknown:
            raise ValueError(f"got the limits {unknown}, want some of {sorted(LIMITS)}")
        self._limits = {**LIMITS, **(limits or {})}
        self._is_background = bool(background)
        self._queue_bytes = _queue_bytes(queue_bytes)
        self._is_packed = bool(pack)
        self._step = 0
        self._is_finished = False
        self._checks = Checks(self._limits)
        self._reports = Reports()
        self._begin(session or session_of_launcher(os.environ))
        keep(self)
        try:
            os.makedirs(self._dumps, exist_ok=True)
        except Exception as error:
            self._report("the run", error)
        else:
            self.update(
                id=id, project=project, name=name, group=group, job_type=job_type, tags=tags, config=config,
                entity=entity,
            )  # fmt: skip
        run = weakref.ref(self)
        set_folder(lambda: _folder_of(run()))

    def _begin(self, session: str | None) -> None:
        """Sets the state that belongs to one process: its log with the lock on it, and the token in its file
        names."""
        # Of the count of steps and the like. Reentrant: a signal handler may log while its own thread does.
        self._lock = threading.RLock()
        token = os.urandom(6).hex()
        self._log = MediaLog(self.dir, self.rank, session, token)
        self._files = RunFiles(self.dir, self._limits, self._log, token, self._is_packed)
        self._writer = Writer(self._queue_bytes)
        # What the writer's thread met.
        self._late: Exception | None = None
        self._has_late_failure = False

    def _begin_in_child(self) -> None:
        """Gives a forked copy of the run its own log. The parent keeps its log and the lock on it."""
        inherited = self._log
        self._begin(inherited.session)
        inherited.leave()

    @property
    def session(self) -> str | None:
        """The name of this attempt. `None` until the log is begun, if nothing says it before."""
        return self._log.session

    def __repr__(self) -> str:
        end = ", finished" if self._is_finished else ""
        return f"<safelight.Run {self.dir!r}, rank {self.rank}, step {self._step}{end}>"

    def __reduce__(self) -> Any:
        # The other process is part of this attempt, so both must know its name.
        options: dict[str, Any] = {"rank": self.rank, "session": self._log.name_session()}
        options["strict"] = self.strict
        options.update(background=self._is_background, queue_bytes=self._queue_bytes, pack=self._is_packed)
        options["limits"] = {name: n for name, n in self._limits.items() if n != LIMITS[name]}
        state = {"_step": self._step, "_is_finished": self._is_finished}
        return _opened, (type(self), self.dir, options, state)

    def update(
        self,
        *,
        id: str | None = None,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] | None = None,
        config: Any = None,
        entity: str | None = None,
    ) -> bool:
        """Changes what describes the run in `safelight.json`. What is not given stays.

        `config` is a dict or a namespace, and its entries are merged into those that are known. `tags` replace
        the known ones. Returns whether all of it was written; a strict run raises the first failure.
        """
        identity: dict[str, Any] = {
            "id": id,
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
        }
        identity.update(job_type=job_type, tags=tags, config=config)
        try:
            with self._lock:
                left_out = merge_identity(self.dir, identity_of(identity), self._limits)
            for field, problem in left_out.items():
                self._report(f"{field} of the run", problem)
        except Exception as error:
            self._report("the run", error)
            return False
        return not left_out

    def log(self, data: Mapping[Any, Any], step: float | None = None, commit: bool | None = None) -> bool:
        """Logs the images in `data`, in order. A value may be an `Image`, or have images in it: a list, a
        tuple, a set, a generator, an array of objects, or another iterable.

        Nested dicts are searched, and their keys joined by `/`. Numbers and texts are ignored, so that the
        same dict may go to another tracker. Each other kind of value without an image is reported once.

        Steps count as in wandb. The count starts at 0. A call with `commit=True` adds one, and so does a
        call with neither `step` nor `commit`. A call with a larger `step` moves the count there; a smaller
        one leaves it. A step may be a whole float, or a number of another library.

        Returns whether every image was written, with all that was given with it. In a run with `background`, and for
        CUDA tensors in any run: whether it was accepted; `flush` says whether it was written. `False` also if `data`
        has a picture without its `Image`. A strict run raises the first failure instead: `TypeError` or `ValueError`
        for an invalid argument, `OSError` if writing fails.
        """
        is_written = True
        entries: list[Entry] = []
        try:
            self._raise_late()
            if not isinstance(data, Mapping):
                raise TypeError(f"got a {type(data).__name__}, want a dict from keys to images")
            step, now = self._count(step, commit), time.time()
            picture, n_bytes = None, 0
            for key, found in search(data, Image):
                if isinstance(found, Image):
                    if self._is_finished:
                        raise _after_finish()
                    entry, is_whole = self._entry(key, step, found, NOTHING, now)
                    is_written &= is_whole
                    if entry is not None:
                        entries.append(entry)
                        n_bytes += found._n_bytes
                    if n_bytes > _BATCH_BYTES or len(entries) == _BATCH_MAX:
                        # A generator may yield more images than fit into memory.
                        written, entries, n_bytes = entries, [], 0
                        is_written &= self._write(written)
                        del written
                elif isinstance(found, PassedOver):
                    problem = TypeError(f"got a {found.kind}, want an Image of it")
                    self._reports.warn(f"{key} is passed over", problem)
                    picture = picture or (problem if found.is_picture else None)
                else:
                    self._report(key, found)
                    is_written = False
            if picture is not None:
                is_written = False
                if self.strict:
                    raise picture
        except Exception as error:
            # What came before the failure is written all the same.
            self._write(entries, is_strict=False)
            self._report("log", error)
            return False
        try:
            return self._write(entries) and is_written
        except Exception as error:
            self._report("log", error)
            return False

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until all that `log` accepted is written, at most `timeout` seconds.

        Returns `False` if the time was too short, or if something that was accepted since the last call could
        not be written. A strict run raises the first such failure. Returns at once if nothing waits, as in a
        run without `background` that logs no CUDA tensors.
        """
        is_written = self._writer.flush(timeout)
        with self._lock:
            is_whole, self._has_late_failure = not self._has_late_failure, False
        self._raise_late()
        return is_written and is_whole

    def finish(self) -> None:
        """Logs that the run is over, and closes the log. Optional: a run may end without it."""
        with self._lock:
            if self._is_finished:
                return
            self._is_finished = True
        self._writer.flush()
        try:
            _, error = self._log.append([json_bytes({"finish": True})])
            self._log.close()
            if error is not None:
                raise error
            self._raise_late()
        except Exception as error:
            self._report("finish", error)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A run that failed may be resumed, so it is not marked as finished.
        if kind is None:
            self.finish()
        else:
            self._close()

    def _wait(self) -> None:
        """Waits until all that was accepted is written. Raises nothing."""
        self._writer.flush()

    def _close(self) -> None:
        self._is_finished = True
        self._writer.flush()
        self._log.close()

    def _count(self, step: float | None, commit: bool | None) -> int:
        """Returns the step of this call, and advances the count.

        Source: wandb 0.31.0 `sdk/wandb_run.py`, `_log`.
        """
        given = None if step is None else whole_step(step)
        with self._lock:
            now = self._step if given is None else given
            self._step = max(self._step, now)
            if commit or (commit is None and given is None):
                self._step += 1
        return now

    def _log_image(self, key: str, step: int, image: Image, extra: Mapping[str, Any] | None = None) -> bool:
        """Logs one image at a step, without a look at the count of steps. For the modules beside this one.

        `extra` are fields of the line that the daemon keeps as they are, such as
        `{"wandb": {"files": {…}}}`; they must be plain JSON values, and must not be fields that lines have.
        Returns whether the image was written, with all that was given with it; in a run with `background`,
        whether it was accepted. Nothing is written if the picture cannot be. A strict run raises the first
        failure instead.
        """
        self._raise_late()
        if self._is_finished:
            self._report(key, _after_finish())
            return False
        entry, is_whole = self._entry(key, step, image, extra or NOTHING, time.time())
        return entry is not None and self._write([entry]) and is_whole

    def _entry(
        self, key: str, step: int, image: Image, extra: Mapping[str, Any], now: float
    ) -> tuple[Entry | None, bool]:
        """Checks all that is known before anything is written. Returns what is left to write, if anything is, and
        whether it is all that was given."""
        try:
            refused = self._checks.refused(key, image)
        except Exception as error:
            self._report(key, error)
            return None, False
        entry = Entry(key, step, image, now, extra, refused)
        if not (image._left_out or refused):
            return entry, True
        for name, problem in {**image._left_out, **refused}.items():
            self._report(f"{name} of {key}", problem)
        return entry, False

    def _write(self, entries: list[Entry], is_strict: bool = True) -> bool:
        """Writes entries, or gives them to the thread. Returns whether all of them are written or accepted."""
        if not entries:
            return True
        is_late = self._is_background or any([entry.image._is_pending for entry in entries])
        # A signal handler may log while its own thread does. The writer's thread may wait for that one.
        may_wait = not self._log.is_mine
        if is_late and has_threads():
            n_bytes = sum([entry.image._n_bytes for entry in entries])
            if self._writer.put(functools.partial(self._write_late, entries), n_bytes, may_wait):
                return True
        if may_wait and not self._writer.is_empty:
            # Items of a key and step are in the order of their lines.
            self._writer.flush()
        problems = self._files.write(entries)
        for problem in problems:
            if is_strict:
                self._report(problem.what, problem.error)
            else:
                self._reports.warn(f"{problem.what} is not logged", problem.error)
        return not problems

    def _write_late(self, entries: list[Entry]) -> None:
        """Writes entries in the thread of the queue, where nothing can be raised."""
        try:
            problems = self._files.write(entries)
        except Exception as error:
            problems = [Problem("log", error)]
        for problem in problems:
            self._has_late_failure = True
            if self.strict:
                self._late = self._late or problem.error
            else:
                self._reports.warn(f"{problem.what} is not logged", problem.error)

    def _raise_late(self) -> None:
        """Raises the first failure that the thread of the queue met, if the run is strict."""
        if self._late is not None:
            error, self._late = self._late, None
            raise error

    def _report(self, what: str, error: Exception) -> None:
        """Raises `error` if the run is strict, otherwise logs a warning once for each kind."""
        if self.strict:
            raise error
        self._reports.warn(f"{what} is not logged", error)


def _queue_bytes(given: Any) -> int:
    if not isinstance(given, numbers.Real) or not 0 <= float(given) < math.inf:
        raise ValueError(f"got queue_bytes {given!r:.64}, want a number of bytes")
    return int(float(given))


def _after_finish() -> Exception:
    return RuntimeError("the run is finished, want log before finish")


def _folder_of(run: Run | None) -> str | None:
    """Returns the folder for unnamed files. With a thread that writes, copying in memory is faster."""
    return None if run is None or run._is_finished or run._is_background else run._dumps
