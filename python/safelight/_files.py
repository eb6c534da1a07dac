"""Files: written whole, appended to, locked, and without a name until they get one.

Runs on every system that Python runs on. What a system lacks is looked up when it is needed: Windows has no
`fcntl` and no `os.writev`, and only Linux has unnamed files.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import platform
import re
from typing import Any, Callable, Optional, Sequence

try:
    import fcntl as _fcntl
except ImportError:
    _fcntl = None  # type: ignore[assignment]

__all__ = [
    "Unnamed",
    "begun",
    "folder_of_unnamed",
    "host_name",
    "is_locked",
    "lock",
    "open_to_append",
    "read_at",
    "remove",
    "safe",
    "set_folder",
    "unnamed",
    "write_all",
    "write_whole",
]

# Windows turns line ends unless a file is opened as binary, and has no forks that inherit descriptors.
_FLAGS: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

# Most buffers of one `writev`, on every system.
_PARTS_MAX = 1024


def _write_first(fd: int, parts: Sequence[Any]) -> int:
    return os.write(fd, parts[0])


def write_all(fd: int, parts: Sequence[bytes]) -> None:
    """Writes all parts in order. One system call may write less, and writes at most 2 GiB."""
    rest = [memoryview(part) for part in parts if len(part)]
    writev = getattr(os, "writev", _write_first)
    while rest:
        n = writev(fd, rest[:_PARTS_MAX])
        while rest and n >= len(rest[0]):
            n -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][n:]


def write_whole(path: str, parts: Sequence[bytes]) -> None:
    """Writes a file that appears under its name only once it is complete."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
    try:
        try:
            write_all(fd, parts)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def open_to_append(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _FLAGS, 0o666)


def begun(fd: int, first: bytes) -> int:
    """Writes the first line of an empty log. If that fails, the log stays empty and is closed."""
    try:
        write_all(fd, [first])
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        os.close(fd)
        raise
    return fd


def read_at(fd: int, n_bytes: int, offset: int) -> bytes:
    """Reads at most `n_bytes` from `offset` of a file that is open to append."""
    if hasattr(os, "pread"):
        return os.pread(fd, n_bytes, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, n_bytes)


def remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


@functools.lru_cache(maxsize=256)
def safe(name: str) -> str:
    """A part of a file name: 1 to 100 characters of `[A-Za-z0-9_.-]`, the first no dot."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")[:100] or "x"


def host_name() -> str:
    return os.uname().nodename if hasattr(os, "uname") else platform.node()


# ---------------------------------------------------------------------------------------------
# Locks.


def lock(fd: int) -> bool:
    """Locks a file against other writers until it is closed. Returns `False` if it has one.

    Raises `OSError` if the system or the file system does not support locks.
    """
    if _fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no locks for whole files")
    try:
        _fcntl.flock(fd, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(fd: int) -> bool:
    """Whether another process writes this log. Takes no lock that outlasts the call."""
    if _fcntl is None:
        return False
    try:
        _fcntl.flock(fd, _fcntl.LOCK_SH | _fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    _fcntl.flock(fd, _fcntl.LOCK_UN)
    return False


# ---------------------------------------------------------------------------------------------
# Unnamed files.

# Most unnamed files that a process keeps open. The training needs file descriptors, too.
UNNAMED_MAX = 32

# The flag of an unnamed file, or 0 if the system has none.
_O_TMPFILE: int = getattr(os, "O_TMPFILE", 0)

# The descriptors of all unnamed files.
unnamed: set[int] = set()


def _no_folder() -> str | None:
    return None


_folder: Callable[[], Optional[str]] = _no_folder


def set_folder(folder: Callable[[], str | None]) -> None:
    """Sets where unnamed files are made from now on. `folder` returns `None` if there can be none."""
    global _folder
    _folder = folder


def folder_of_unnamed() -> str | None:
    """Returns the folder for a new unnamed file, or `None` if there can be none."""
    return _folder() if _O_TMPFILE and len(unnamed) < UNNAMED_MAX else None


class Unnamed:
    """A complete file without a name, on the file system of the folder in which it may get one.

    A file that never got a name disappears with its last reference or with the process.
    """

    def __init__(self, folder: str, parts: Sequence[bytes]) -> None:
        # A file descriptor.
        self._fd = -1
        fd = os.open(folder, _O_TMPFILE | os.O_WRONLY | _FLAGS, 0o666)
        try:
            write_all(fd, parts)
            # Without a descriptor open for writing, the file does not look like one still being written.
            self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | _FLAGS)
        finally:
            os.close(fd)
        unnamed.add(self._fd)
        self._identity = self._look()
        self._is_named = False

    def __del__(self, close: Any = os.close) -> None:
        if self._fd >= 0:
            unnamed.discard(self._fd)
            # A forked process may have closed every descriptor that it inherited.
            with contextlib.suppress(OSError):
                close(self._fd)

    def _look(self) -> tuple[int, int, int]:
        found = os.fstat(self._fd)
        return found.st_dev, found.st_ino, found.st_size

    @property
    def n_bytes(self) -> int:
        return self._identity[2]

    def take_name(self, path: str) -> bool:
        """Gives the file its name. Returns `False` if it has a name already, or if linking fails."""
        if self._is_named:
            return False
        try:
            if self._look() != self._identity:
                return False
            # Python follows the link in /proc only if a folder is given. The path is absolute, so any
            # descriptor will do.
            os.link(f"/proc/self/fd/{self._fd}", path, src_dir_fd=self._fd)
        except OSError:
            return False
        self._is_named = True
        return True

    def content(self) -> bytes:
        """Returns the file's bytes. Raises `OSError` if other code closed the descriptor."""
        if self._look() != self._identity:
            raise OSError(errno.EBADF, "the copy of the image was closed")
        with open(os.dup(self._fd), "rb", buffering=0) as file:
            file.seek(0)
            return file.readall()
