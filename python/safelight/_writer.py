"""A thread that writes what `log` accepted, in order, while the training goes on."""

from __future__ import annotations

import collections
import contextlib
import threading
from typing import Callable, NamedTuple

__all__ = ["Writer"]

# How long the thread of an empty queue waits for more, in seconds. Then it ends, and the next entry starts another.
_IDLE_S = 5.0


class _Work(NamedTuple):
    """Something to write. It keeps alive what it needs: nothing else does if the run is dropped."""

    write: Callable[[], None]
    n_bytes: int


class Writer:
    """A queue of things to write, bounded by their bytes, and the thread that writes them.

    The thread exists only while there is work. A fork's child makes a writer of its own: the parent's thread
    writes what the parent accepted.
    """

    def __init__(self, queue_bytes: int) -> None:
        self.queue_bytes = queue_bytes
        # Reentrant: a signal handler may log while its own thread is in `put`.
        self._changed = threading.Condition(threading.RLock())
        self._queue: collections.deque[_Work] = collections.deque()
        # Of what is in the queue, and of what is being written. It may be off after a signal handler has logged, and is
        # right again once the queue is empty.
        self._n_bytes = 0
        self._is_writing = False
        self._thread: threading.Thread | None = None

    @property
    def is_empty(self) -> bool:
        """Whether all that was accepted is written."""
        return not self._queue and not self._is_writing

    def put(self, write: Callable[[], None], n_bytes: int, may_wait: bool = True) -> bool:
        """Accepts a function that writes `n_bytes`, and raises nothing. Waits while the queue is full, if it
        may; into an empty one everything fits.

        Returns `False` if no thread can be started, as at the end of the process. Then nothing is accepted.
        """
        with self._changed:
            while may_wait and self._n_bytes and self._n_bytes + n_bytes > self.queue_bytes:
                self._changed.wait()
            if self._thread is None and not self._start():
                return False
            self._n_bytes += n_bytes
            self._queue.append(_Work(write, n_bytes))
            self._changed.notify_all()
        return True

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until all that was accepted before is written. Returns `False` if `timeout` seconds were too few."""
        if self.is_empty or self._thread is threading.current_thread():
            return True
        # What is put now is written last. A count of what was put could be wrong: a signal handler that logs may
        # come between reading and writing it.
        written: list[bool] = []
        if not self.put(lambda: written.append(True), 0, may_wait=False):
            return True
        with self._changed:
            return self._changed.wait_for(lambda: bool(written), timeout)

    def _start(self) -> bool:
        thread = threading.Thread(target=self._work, name="safelight", daemon=True)
        if self._thread is not None:
            # A signal handler that logs has started one.
            return True
        self._thread = thread
        try:
            thread.start()
        except BaseException as error:
            self._thread = None
            while self._queue:
                # Such a handler has put this.
                self._write_next()
            if not isinstance(error, RuntimeError):
                raise
            return False
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._n_bytes = 0
                    self._changed.notify_all()
                    self._changed.wait(_IDLE_S)
                if not self._queue:
                    self._thread = None
                    return
            # Nothing may end the thread while there is work, not even the `SystemExit` of a handler of warnings.
            # `flush` would wait for ever.
            with contextlib.suppress(BaseException):
                self._write_next()

    def _write_next(self) -> None:
        # First of all, so that the queue never seems empty.
        self._is_writing = True
        work = self._queue.popleft()
        n_bytes = work.n_bytes
        try:
            work.write()
        finally:
            # The arrays are freed before there is room for others.
            del work
            with self._changed:
                self._n_bytes -= n_bytes
                self._is_writing = False
                self._changed.notify_all()
