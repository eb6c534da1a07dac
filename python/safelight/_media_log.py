"""The media log of one process in a run directory."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import Any, Sequence

from ._files import begun, host_name, is_locked, lock, open_to_append, read_at, safe, write_all
from ._session import header, session_of_header, session_of_process

__all__ = ["MediaLog"]

# Most numbered logs of one rank on one host. A further writer gets a log with a random name.
_LOGS_MAX = 64

# A log of another host that changed within this time, in seconds, has a writer.
_AT_WORK_S = 300


class MediaLog:
    """A log with one writer, which holds a lock on it. It is opened by its first line. Threads take turns."""

    def __init__(self, dir: str, rank: int, session: str | None, token: str) -> None:
        self.dir = dir
        self.rank = rank
        # `None` until the log is begun, if nothing says it before.
        self.session = session
        self._token = token
        # Reentrant: a signal handler may log while its own thread does.
        self._turn = threading.RLock()
        # A file descriptor, and what closes it.
        self._fd: int | None = None
        self._close: Any = None
        # Whether the last line is incomplete.
        self._is_torn = False
        self._is_closed = False

    @property
    def is_mine(self) -> bool:
        """Whether this thread is in the midst of an operation on the log, as in a signal handler."""
        turn: Any = self._turn
        return bool(turn._is_owned())

    def append(self, lines: Sequence[bytes]) -> tuple[int, BaseException | None]:
        """Appends lines. Returns how many of them are in the log whole, and what prevented the others, which may
        be a `KeyboardInterrupt`: the caller raises it again."""
        with self._turn:
            return self._append(lines)

    def _append(self, lines: Sequence[bytes]) -> tuple[int, BaseException | None]:
        try:
            fd = self._opened()
            before = os.fstat(fd).st_size
        except BaseException as error:
            return 0, error
        # End an incomplete line first, so that these stand on lines of their own.
        start = b"\n" if self._is_torn else b""
        text = start + b"\n".join(lines) + b"\n"
        try:
            write_all(fd, [text])
        except BaseException as error:
            self._is_torn = True
            # No other process writes into this log. A line that lacks only its end gets it before the next one.
            n_written = os.fstat(fd).st_size - before
            return text[len(start) : n_written + 1].count(b"\n"), error
        self._is_torn = False
        return len(lines), None

    def _opened(self) -> int:
        if self._is_closed:
            raise RuntimeError("the run is finished, want log before finish")
        if self._fd is None:
            opened = self._open()
            if self._fd is not None:
                # A signal handler has logged in between.
                os.close(opened)
            else:
                self._fd = opened
                self._close = weakref.finalize(self, os.close, opened)
                # Closing it at exit could come before the training's own handlers, which may still log.
                self._close.atexit = False
        return self._fd

    def close(self) -> None:
        """Closes the log for good, and so gives up its lock."""
        with self._turn:
            self._end()

    def leave(self) -> None:
        """Closes a fork's copy of the log. The lock stays with the parent, and nothing is waited for: another
        thread of the parent may have had its turn."""
        self._end()

    def _end(self) -> None:
        self._is_closed = True
        if self._fd is not None:
            self._fd = None
            # Code of the training may have closed it.
            with contextlib.suppress(OSError):
                self._close()

    def name_session(self) -> str:
        """Returns the session, which is decided now if it was not yet."""
        with self._turn:
            if self.session is None:
                self.session = self._session_at_work(safe(host_name())) or session_of_process()
            return self.session

    def _open(self) -> int:
        """Opens a log, and locks it against other writers until it is closed.

        A later process of the session reuses a log that is free. A session thus has as many logs as it had
        writers at one time. The name contains the host, because a lock may not hold across hosts.
        """
        stem = os.path.join(self.dir, f"rank{self.rank}-{safe(host_name())}")
        first = header(self.name_session(), self.rank)
        for number in range(_LOGS_MAX):
            fd = open_to_append(f"{stem}-{number}.media.jsonl")
            if read_at(fd, len(first), 0) not in (b"", first):
                # Another session's log. A lock on it, however short, would say that its session is at work.
                os.close(fd)
                continue
            try:
                is_ours = lock(fd)
            except OSError:
                # No locks here.
                os.close(fd)
                break
            if not is_ours:
                os.close(fd)
                continue
            length = os.fstat(fd).st_size
            if length == 0:
                return begun(fd, first)
            if read_at(fd, len(first), 0) == first:
                # The last writer may have been killed in the middle of a line.
                self._is_torn = read_at(fd, 1, length - 1) != b"\n"
                return fd
            # Another session's log.
            os.close(fd)
        fd = open_to_append(f"{stem}-{self._token}.media.jsonl")
        return fd if os.fstat(fd).st_size > 0 else begun(fd, first)

    def _session_at_work(self, host: str) -> str | None:
        """Returns the session of another process that is writing in this directory as the same rank.

        It has no launcher that says otherwise, so both are parts of one attempt: neither must replace the
        images of the other.
        """
        try:
            names = sorted(os.listdir(self.dir))
        except OSError:
            # There is no such directory. `log` reports it.
            return None
        for name in names:
            if not (name.startswith(f"rank{self.rank}-") and name.endswith(".media.jsonl")):
                continue
            try:
                with open(os.path.join(self.dir, name), "rb") as file:
                    if name.startswith(f"rank{self.rank}-{host}-"):
                        is_at_work = is_locked(file.fileno())
                    else:
                        # A lock of another host may not be seen here.
                        is_at_work = abs(time.time() - os.fstat(file.fileno()).st_mtime) < _AT_WORK_S
                    session = session_of_header(file.readline(4096)) if is_at_work else None
            except OSError:
                continue
            if session is not None:
                return session
        return None
