"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os

__all__ = ["keep", "read"]


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def keep(content: bytes, path: str) -> None:
    """Writes a file that appears under its name only once it is complete. A file that is there stays.

    Creates its folder if needed. Raises `OSError`.
    """
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{name[:100]}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:
            # The file system has no links.
            if not os.path.exists(path):
                os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
