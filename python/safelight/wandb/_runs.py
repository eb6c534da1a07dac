"""The Safelight run beside each W&B run of this process."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from importlib import import_module
from typing import Any, Callable, Sequence

from .._batch import Entry
from .._files import safe
from .._image import Image, mask_sets
from .._run import Run
from ._daemon import Daemon
from ._names import Library, publish, run_folder, settings_of
from ._place import Placer
from ._promises import names_of

__all__ = ["Runs"]

_LOGGER = logging.getLogger("safelight")


class LoggedEntries(threading.local):
    """What this thread has logged in a call of `Run.log`."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        # Objects of wandb, each with the name that it has in the row: one object may have several.
        self.parts: list[tuple[Any, str]] = []


def _picture_of(image: Any) -> tuple[Image, dict[str, Any]]:
    """An Image of wandb as one of Safelight, and the names of its files in the run."""
    found = image._safelight
    boxes = {
        name: {"box_data": box._val, "class_labels": box._class_labels}
        for name, box in (image._boxes or {}).items()
    }
    described = {"caption": image._caption, "grouping": image._grouping, "classes": image._classes}
    picture = Image(found.picture, boxes=boxes, **described)
    sets: dict[str, Any] = {}
    names = {}
    for name, mask in (image._masks or {}).items():
        theirs = mask.__dict__.get("_safelight")
        if theirs is None:
            sets.update(mask_sets({name: {"path": mask._path}}, False, {}))
        else:
            names[str(name)] = theirs.name
            labels = mask._val.get("class_labels")
            sets[str(name)] = {
                "mask_data": theirs.dump,
                "class_labels": {str(id): labels[id] for id in labels},
            }
    if sets:
        picture._masks = sets
    return picture, {"image": found.name, **({"masks": names} if names else {})}


class _OurRun:
    """A run of Safelight that has the pictures of one W&B run."""

    def __init__(self, run: Any, directory: str, daemon: Daemon, library: Library) -> None:
        self.wandb_run = run
        self._run = Run(directory, **settings_of(run))
        self._folder = run_folder(run)
        self._library = library
        self._daemon = daemon
        self.pid = -1
        self.begin()

    def begin(self) -> None:
        """Sets the state that belongs to one process."""
        self.pid = os.getpid()
        run = self.wandb_run
        is_offline = self._is_offline = bool(run.offline)
        # An offline run records each file when its row is logged, so that a later upload finds it.
        placed: Callable[[list[str]], None] = lambda names: None if is_offline else publish(run, names)
        self._logged = LoggedEntries()
        self._placer = Placer(self._run.dir, self._folder, run.dir, self._daemon, self._library, placed)

    @property
    def dir(self) -> str:
        return self._run.dir

    def log(self, key: str, step: int, image: Any, parts: list[tuple[Any, str]]) -> bool:
        """Logs a picture and its masks, which are bound to the run. `logged` then writes it.

        `parts` are those of them whose files are promised, with the names. Returns `False` if their files must be made.
        """
        try:
            picture, files = _picture_of(image)
            extra = {"wandb": {"run": self.wandb_run.id, "dir": self._folder, "files": files}}
            # A part that is left out here, such as a box without a position, is in a file of wandb.
            entry, _ = self._run._entry(key, step, picture, extra, time.time())
        except Exception as error:
            _LOGGER.warning("a picture is left to wandb: %s: %s", type(error).__name__, error)
            return False
        if entry is None:
            return False
        self._logged.entries.append(entry)
        self._logged.parts += parts
        return True

    def logged(self) -> list[tuple[Any, str]]:
        """Ends a call of `Run.log`: small pictures are written into one file, and all files go into one record.

        Returns the parts whose files must be made after all, because the run directory cannot be written.
        """
        entries, parts = self._logged.entries, self._logged.parts
        if not entries:
            return []
        self._logged.entries, self._logged.parts = [], []
        try:
            is_written = self._run._write(entries)
        except Exception as error:
            _LOGGER.warning("pictures are left to wandb: %s: %s", type(error).__name__, error)
            is_written = False
        if not is_written:
            return parts
        if self._is_offline:
            publish(self.wandb_run, [name for entry in entries for name in names_of(entry.extra)])
        for entry in entries:
            self._placer.promise(names_of(entry.extra)[0])
        return []

    def finish(self, limit_s: float, is_failed: bool) -> None:
        missing = self._placer.finish(limit_s)
        if missing:
            _LOGGER.warning(
                "%d pictures are not in the W&B run %s: %s. Their tensors stay in %s. "
                "`python -m safelight.wandb place %s %s` puts them there later",
                len(missing), self.wandb_run.id, ", ".join(missing[:3]), self.dir, self.dir, self.wandb_run.dir,
            )  # fmt: skip
        if is_failed:
            self._run._close()
        else:
            self._run.finish()


class Runs:
    """All runs. `directory` may contain `{id}` and `{project}`, which stand for those of the W&B run."""

    def __init__(self, library: Library, directory: str, sockets: Sequence[str], finish_s: float) -> None:
        self._library = library
        self._directory = directory
        self._daemon = Daemon(sockets)
        self._finish_s = finish_s
        self._runs: dict[int, _OurRun] = {}
        self._refused: set[str] = set()
        self._lock = threading.Lock()
        self._ends_at_exit = False
        self._current: weakref.ref[Any] | None = None

    def begin(self) -> None:
        """Begins the run beside the current W&B run, if there is one and this did not happen yet."""
        run = import_module("wandb").run
        if run is not None and (self._current is None or self._current() is not run):
            self._current = weakref.ref(run)
            self.of(run)

    def of(self, run: Any) -> _OurRun | None:
        """`None` if the pictures of this W&B run are left to wandb."""
        found = self._runs.get(id(run))
        if found is not None and found.pid == os.getpid():
            return found
        with self._lock:
            found = self._runs.get(id(run))
            if found is not None:
                # This process was forked.
                found.begin()
                return found
            if run.id in self._refused:
                return None
            try:
                if getattr(run, "disabled", False):
                    return None
                found = _OurRun(run, self._directory_of(run), self._daemon, self._library)
            except Exception as error:
                self._refused.add(run.id)
                _LOGGER.warning("pictures of this run are left to wandb: %s: %s", type(error).__name__, error)
                return None
            self._runs[id(run)] = found
            if not self._ends_at_exit:
                # wandb's service ends at exit, too. It was started before, so this handler runs before wandb's.
                atexit.register(self._finish_all)
                self._ends_at_exit = True
            return found

    def _directory_of(self, run: Any) -> str:
        directory = self._directory.replace("{id}", safe(str(run.id)))
        return directory.replace("{project}", safe(str(run.project or "uncategorized")))

    def logged(self, run: Any) -> list[tuple[Any, str]]:
        """Ends a call of `Run.log`. Returns the parts whose files must be made after all."""
        found = self._runs.get(id(run))
        return found.logged() if found is not None and found.pid == os.getpid() else []

    def finish(self, run: Any, is_failed: bool) -> None:
        """Waits for the pictures of a W&B run that ends. `is_failed` says that the training may be resumed."""
        found = self._runs.pop(id(run), None)
        if found is not None:
            if found.pid != os.getpid():
                found.begin()
            found.finish(self._finish_s, is_failed)

    def _finish_all(self) -> None:
        # An exception that nobody caught.
        is_failed = hasattr(sys, "last_type")
        for run in [found.wandb_run for found in self._runs.values() if found.pid == os.getpid()]:
            self.finish(run, is_failed)
