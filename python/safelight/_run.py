"""Runs: a directory that a training logs images into."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Mapping, Sequence

from ._dumps import Dump
from ._files import remove, safe, set_folder, write_whole
from ._identity import identity_of, merge_identity
from ._image import Image
from ._limits import LIMITS, over_dump_limit
from ._line import fit
from ._media_log import MediaLog
from ._session import SESSION_BYTES_MAX, rank_of, session_of_launcher
from ._values import PassedOver, json_bytes, search, utf_8, whole_step

__all__ = ["Run"]

_LOGGER = logging.getLogger("safelight")

# Most kinds of failure that a run reports.
_REPORTED_MAX = 100

# All runs that still exist.
_runs: set[weakref.ref[Run]] = set()


def _begin_in_child() -> None:
    """Gives each forked copy of a run its own log. The parent keeps its log and the lock on it."""
    for reference in list(_runs):
        run = reference()
        if run is not None:
            inherited = run._log
            run._begin(inherited.session)
            inherited.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


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
    - `id`, `project`, `name`, `group`, `job_type`, `tags`, `config`, `entity` describe the run. They
      are merged into `safelight.json`, which is rewritten only if a value changes. `update` changes
      them later.

    A forked process may go on using the `Run` that it inherited, and a process that is sent one by pickle,
    such as a worker of a DataLoader, belongs to the same session. As a context manager, a run is finished
    when the block ends without an exception.

    Raises `TypeError` or `ValueError` for an invalid `dir`, `rank`, `session` or
    `limits`, strict or not.
    """

    def __init__(
        self,
        dir: str | os.PathLike[str],
        *,
        rank: int | None = None,
        session: str | None = None,
        strict: bool = False,
        limits: Mapping[str, int] | None = None,
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
        self._step = 0
        self._is_finished = False
        self._reported: set[tuple[type, str]] = set()
        self._begin(session or session_of_launcher(os.environ))
        _runs.add(weakref.ref(self, _runs.discard))
        try:
            os.makedirs(self._dumps, exist_ok=True)
            identity: dict[str, Any] = {
                "id": id,
                "project": project,
                "entity": entity,
                "name": name,
                "group": group,
            }
            identity.update({"job_type": job_type, "tags": tags, "config": config})
            self._identify(identity, is_config_merged=False)
        except Exception as error:
            self._report("the run", error)
        run = weakref.ref(self)
        set_folder(lambda: _folder_of(run()))

    def _begin(self, session: str | None) -> None:
        """Sets the state that belongs to one process: its log with the lock on it, and the token in its file
        names."""
        # Reentrant: a signal handler may log while its own thread is in `log`.
        self._lock = threading.RLock()
        self._token = os.urandom(6).hex()
        self._n_dumps = 0
        self._log = MediaLog(self.dir, self.rank, session, self._token)

    @property
    def session(self) -> str | None:
        """The name of this attempt. `None` until the log is begun, if nothing says it before."""
        return self._log.session

    def __repr__(self) -> str:
        end = ", finished" if self._is_finished else ""
        return f"<safelight.Run {self.dir!r}, rank {self.rank}, step {self._step}{end}>"

    def __reduce__(self) -> Any:
        # The other process is part of this attempt, so both must know its name.
        with self._lock:
            options = {"rank": self.rank, "session": self._log.name_session(), "strict": self.strict}
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
        try:
            identity: dict[str, Any] = {
                "id": id,
                "project": project,
                "entity": entity,
                "name": name,
                "group": group,
            }
            identity.update({"job_type": job_type, "tags": tags, "config": config})
            return self._identify(identity, is_config_merged=True)
        except Exception as error:
            self._report("the run", error)
            return False

    def _identify(self, given: Mapping[str, Any], is_config_merged: bool) -> bool:
        with self._lock:
            left_out = merge_identity(self.dir, identity_of(given), self._limits, is_config_merged)
        for name, problem in left_out.items():
            self._report(f"{name} of the run", problem)
        return not left_out

    def log(self, data: Mapping[Any, Any], step: float | None = None, commit: bool | None = None) -> bool:
        """Logs the images in `data`, in order. A value may be an `Image`, or have images in it: a list, a
        tuple, a set, a generator, an array of objects, or another iterable.

        Nested dicts are searched, and their keys joined by `/`. Numbers and texts are ignored, so that the
        same dict may go to another tracker. Each other kind of value without an image is reported once.

        Steps count as in wandb. The count starts at 0. A call with `commit=True` adds one, and so does a
        call with neither `step` nor `commit`. A call with a larger `step` moves the count there; a smaller
        one leaves it. A step may be a whole float, or a number of another library.

        Returns whether every image was written, with all that was given with it. `False` also if `data`
        has a picture without its `Image`. A strict run raises the first failure instead: `TypeError` or
        `ValueError` for an invalid argument, `OSError` if writing fails.
        """
        is_written, picture = True, None
        try:
            if not isinstance(data, Mapping):
                raise TypeError(f"got a {type(data).__name__}, want a dict from keys to images")
            now = self._count(step, commit)
            for key, found in search(data, Image):
                if isinstance(found, Image):
                    is_written &= self._log_image(key, now, found)
                elif isinstance(found, PassedOver):
                    problem = TypeError(f"got a {found.kind}, want an Image of it")
                    self._warn(f"{key} is passed over", problem)
                    picture = picture or (problem if found.is_picture else None)
                else:
                    self._report(key, found)
                    is_written = False
            if picture is not None and self.strict:
                raise picture
        except Exception as error:
            self._report("log", error)
            return False
        return is_written and picture is None

    def finish(self) -> None:
        """Logs that the run is over, and closes the log. Optional: a run may end without it."""
        with self._lock:
            if self._is_finished:
                return
            try:
                self._append(json_bytes({"finish": True}))
            except Exception as error:
                self._report("finish", error)
            finally:
                self._close()

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

    def _close(self) -> None:
        with self._lock:
            self._is_finished = True
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
        Returns whether the image was written, with all that was given with it. Nothing is written
        if the picture cannot be. A strict run raises the first failure instead.
        """
        saved: list[str] = []
        try:
            if image._error is not None:
                raise image._error
            if not 0 < len(utf_8(key)) <= self._limits["key_bytes_max"] or "\0" in key:
                raise ValueError(f"got key {key[:64]!r}, want 1 to 1024 bytes without NUL")
            dump, fields = image._dump, dict(image._fields)
            over = over_dump_limit(dump.n_bytes, dump.shape, fields.get("format"), self._limits)
            if over is not None:
                raise ValueError(f"got {over}")
            stem = f"tensors/{safe(key)}-{step}"
            line = {"key": key, "step": step, "data": self._save(stem, dump, saved), **fields}
            if image._masks:
                line["masks"] = self._save_masks(f"{stem}-mask", image._masks, saved)
            line["time"] = time.time()
            line.update(extra or {})

            def beside(extension: str, content: bytes) -> Any:
                return {"path": self._save(stem, Dump(extension, [content]), saved)}

            text, over_limits = fit(line, self._limits, beside)
            self._append(text)
        except Exception as error:
            for path in saved:
                remove(os.path.join(self.dir, path))
            self._report(key, error)
            return False
        left_out = {**image._left_out, **over_limits}
        for name, problem in left_out.items():
            self._report(f"{name} of {key}", problem)
        return not left_out

    def _save_masks(self, stem: str, masks: Any, saved: list[str]) -> Any:
        """Writes the dumps in `masks`. Returns `masks` with references in place of the dumps."""
        if isinstance(masks, list):
            return [self._save_masks(stem, item, saved) for item in masks]
        if isinstance(masks, dict):
            return {name: self._save_masks(stem, item, saved) for name, item in masks.items()}
        return self._save(stem, masks, saved) if isinstance(masks, Dump) else masks

    def _save(self, stem: str, dump: Dump, saved: list[str]) -> Any:
        """Writes a dump under a unique name. Returns the reference for the log line."""
        with self._lock:
            self._n_dumps += 1
            path = f"{stem}-{self._token}-{self._n_dumps}{dump.extension}"
        whole = os.path.join(self.dir, path)
        if dump.file is None or not dump.file.take_name(whole):
            write_whole(whole, dump.content())
        saved.append(path)
        return {"path": path, **dump.description} if dump.description else path

    def _append(self, line: bytes) -> None:
        """Appends one line to the log of this process."""
        with self._lock:
            if self._is_finished:
                raise RuntimeError("the run is finished, want log before finish")
            self._log.append(line)

    def _report(self, what: str, error: Exception) -> None:
        """Raises `error` if the run is strict, otherwise logs a warning once for each kind."""
        if self.strict:
            raise error
        self._warn(f"{what} is not logged", error)

    def _warn(self, what: str, error: Exception) -> None:
        """Logs a warning once for each kind of error."""
        # The message of an `OSError` contains the path. Leave that out: a full disk is one kind of failure.
        kind = (type(error), str(error.strerror if isinstance(error, OSError) else error))
        if kind not in self._reported and len(self._reported) < _REPORTED_MAX:
            self._reported.add(kind)
            _LOGGER.warning("%s: %s: %s (reported once)", what, type(error).__name__, error)


def _folder_of(run: Run | None) -> str | None:
    return None if run is None or run._is_finished else run._dumps
