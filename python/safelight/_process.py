"""The runs of this process: what a fork makes of them, and the end of the process."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from typing import Protocol

__all__ = ["has_threads", "keep"]


class Kept(Protocol):
    """A run."""

    def _begin_in_child(self) -> None: ...

    def _wait(self) -> None: ...


# All runs that still exist.
_runs: set[weakref.ref[Kept]] = set()

_is_ending = False


def keep(run: Kept) -> None:
    """Registers a run, as long as it exists."""
    _runs.add(weakref.ref(run, _runs.discard))


def has_threads() -> bool:
    """Whether threads can be relied upon. At the end of the process there may be none any more."""
    return not _is_ending


def _existing() -> list[Kept]:
    return [run for run in [reference() for reference in list(_runs)] if run is not None]


def _begin_in_child() -> None:
    for run in _existing():
        run._begin_in_child()


def _end() -> None:
    """Waits for all that was accepted."""
    global _is_ending
    _is_ending = True
    for run in _existing():
        run._wait()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)

atexit.register(_end)
# A process that `multiprocessing` forked ends without `atexit`.
with contextlib.suppress(RuntimeError):
    getattr(threading, "_register_atexit", atexit.register)(_end)
