"""Puts developed pictures where the rows of a W&B run say that they are."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import threading
import time
from typing import Any, Callable, Iterable, Mapping

from ._daemon import Daemon
from ._encode import encode
from ._files import keep, read
from ._names import Library
from ._promises import Promises, names_of

__all__ = ["Placer"]

_LOGGER = logging.getLogger("safelight")

# How long a picture waits for the daemon, in seconds: if no daemon answers, or it does not know the run; and if it knows
# the run, but has no item of the picture.
_AWAY_S = 5.0
_UNKNOWN_S = 30.0

# Shortest and longest time between two looks, in seconds.
_PAUSE_S = (0.05, 2.0)

# Most steps of keys that are asked for in one look. The next look goes on with the others.
_STEPS_MAX = 64


class Placer:
    """Keeps the promises of one W&B run: copies finished pictures from the store, or makes them.

    `folder` is the name of the W&B run's directory, `files` the path of its files. `placed` is called with the
    names of files that are complete. It is called by one thread at a time.
    """

    def __init__(
        self,
        directory: str,
        folder: str,
        files: str,
        daemon: Daemon,
        library: Library,
        placed: Callable[[list[str]], None],
    ) -> None:
        self._directory = directory
        self._files = files
        self._daemon = daemon
        self._library = library
        self._placed = placed
        self._promises = Promises(directory, folder)
        # When each promise of this process was made, and since when those of other processes are waited for.
        self._since: dict[str, float] = {}
        self._others_since = time.monotonic()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._is_ended = False
        # Steps of keys that the daemon was asked for.
        self._n_asked = 0
        self._run: str | None = None
        self._store: str | None = None
        self._reported: set[str] = set()
        self._thread: threading.Thread | None = None

    def promise(self, name: str) -> None:
        """Notes that this process has logged a picture under this name."""
        self._since[name] = time.monotonic()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="safelight-wandb", daemon=True)
            # While Python ends, no thread can be started. `finish` then does its work.
            with contextlib.suppress(RuntimeError):
                self._thread.start()
        self._wake.set()

    def _work(self) -> None:
        pause = _PAUSE_S[0]
        while not self._is_ended:
            if not self._since:
                self._wake.wait()
            self._wake.clear()
            time.sleep(pause)
            if self._is_ended:
                return
            try:
                is_any_placed = self.look(list(self._since), _AWAY_S, _UNKNOWN_S, self._left)
            except Exception as error:
                self._warn("pictures of the W&B run are late", error)
                is_any_placed = False
            pause = _PAUSE_S[0] if is_any_placed else min(2 * pause, _PAUSE_S[1])

    def _left(self) -> float:
        return 0.0 if self._is_ended else math.inf

    def finish(self, limit_s: float) -> list[str]:
        """Waits for all pictures of the run, those of other processes included, and ends the thread.

        For half of `limit_s` seconds the daemon is waited for, if one answers. Then the rest is made here. Returns the
        names of pictures that are still missing.
        """
        end = time.monotonic() + limit_s

        def left() -> float:
            return max(0.0, end - time.monotonic())

        self._is_ended = True
        self._wake.set()
        if not self._lock.acquire(timeout=min(left(), threading.TIMEOUT_MAX)):
            # The thread is still busy with one picture.
            return sorted(list(self._since))
        try:
            self._promises.update()
            self._others_since = time.monotonic()
            names = [*dict.fromkeys([*self._since, *self._promises.lines])]
        finally:
            self._lock.release()
        pause = _PAUSE_S[0]
        while names:
            is_any_placed = self.look(names, 0.0, limit_s if left() > limit_s / 2 else 0.0, left)
            names = [name for name in names if name in self._promises.lines or name in self._since]
            if not names or left() == 0:
                break
            pause = _PAUSE_S[0] if is_any_placed else min(2 * pause, 0.5)
            time.sleep(min(pause, left()))
        return sorted(names)

    def look(
        self,
        names: Iterable[str],
        away_s: float,
        unknown_s: float,
        left: Callable[[], float] = lambda: math.inf,
    ) -> bool:
        """Places the pictures among `names` that are finished. Makes those that have waited for too long: for `away_s`
        seconds without a daemon, for `unknown_s` with one. Stops when no time is `left`, in seconds, after at most one
        more picture. Returns whether any was placed."""
        with self._lock:
            self._promises.update()
            lines = {name: self._promises.lines[name] for name in names if name in self._promises.lines}
            placed: list[str] = []
            for name, line in list(lines.items()):
                if all(os.path.exists(self._at(path)) for path in names_of(line)):
                    # wandb was faster. Another process publishes its own files.
                    is_ours = name in self._since
                    files = self._done(name)
                    placed += files if is_ours else []
                    del lines[name]
            try:
                items, asked = self._items(lines, left)
                # A daemon that has not met the run may not watch its directory.
                waits_s = unknown_s if self._run else min(unknown_s, _AWAY_S)
            except OSError as error:
                items, asked, waits_s = {}, list(lines), away_s
                _LOGGER.debug("no daemon answers: %s", error)
            now = time.monotonic()
            for name in asked:
                if left() == 0:
                    break
                line, item = lines[name], items.get(name)
                is_late = now - self._since.get(name, self._others_since) >= waits_s
                try:
                    if item is not None and item["state"] == "image":
                        placed += self._copy(name, line, item)
                    elif is_late or (item is not None and item.get("class") == "final"):
                        placed += self._make(name, line)
                except Exception as error:
                    self._warn(f"{name} is not in the W&B run yet", error)
            if placed:
                self._placed(placed)
            return bool(placed)

    def _at(self, name: str) -> str:
        return os.path.join(self._files, name)

    def _done(self, name: str) -> list[str]:
        self._since.pop(name, None)
        return names_of(self._promises.lines.pop(name))

    def _items(self, lines: Mapping[str, Any], left: Callable[[], float]) -> tuple[dict[str, Any], list[str]]:
        """The daemon's items of these lines, by the name of the picture, and the names that it was asked for."""
        if not lines or left() == 0:
            return {}, []
        self._run = self._run or self._daemon.run_of(self._directory, left())
        if self._run is None:
            return {}, list(lines)
        self._store = self._store or self._daemon.store(left())
        steps: dict[tuple[str, int], list[str]] = {}
        for name, line in lines.items():
            steps.setdefault((line["key"], line["step"]), []).append(name)
        turn = list(steps)
        first = self._n_asked % len(turn)
        found, asked = {}, []
        for step in (turn[first:] + turn[:first])[:_STEPS_MAX]:
            if left() == 0:
                break
            for item in self._daemon.items(self._run, *step, left()):
                for name in names_of(item.get("extra") or {})[:1]:
                    if name in lines:
                        found[name] = item
            asked += steps[step]
            self._n_asked += 1
        return found, asked

    def _copy(self, name: str, line: Any, item: Any) -> list[str]:
        """Copies the files of an item from the store. Files that the item lacks are made."""
        assert self._store is not None
        files = line["wandb"]["files"]
        sources = {files["image"]: item}
        sources.update(
            {path: (item.get("masks") or {}).get(mask) for mask, path in files.get("masks", {}).items()}
        )
        try:
            contents = {path: self._stored(part) for path, part in sources.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._warn("the store cannot be read, the pictures are made here", error)
            return self._make(name, line)
        for path, content in contents.items():
            keep(content, self._at(path))
        return self._done(name)

    def _stored(self, part: Mapping[str, Any]) -> bytes:
        """A media file of the store. Raises `ValueError` if it is not the one that the item names."""
        assert self._store is not None
        content = read(os.path.join(self._store, part["path"]))
        if hashlib.sha256(content).hexdigest() != part["sha256"]:
            raise ValueError(f"{part['path']} is damaged")
        return content

    def _make(self, name: str, line: Any) -> list[str]:
        for path, content in encode(self._library, self._directory, line).items():
            keep(content, self._at(path))
        return self._done(name)

    def _warn(self, what: str, error: Exception) -> None:
        """Logs a warning once for each kind of error."""
        kind = f"{type(error).__name__}: {error.strerror if isinstance(error, OSError) else error}"
        if kind not in self._reported and len(self._reported) < 20:
            self._reported.add(kind)
            _LOGGER.warning("%s: %s (reported once)", what, kind)
