"""Warnings of the logger `safelight`, one for each kind of failure."""

from __future__ import annotations

import contextlib
import logging
import re

__all__ = ["Reports"]

_LOGGER = logging.getLogger("safelight")

# Most kinds of failure that a run reports.
_REPORTED_MAX = 100

# The value in a message of this package. A type, such as `a builtins.int`, is not matched: there are few.
_GOT = re.compile(r"got (?!an? [\w.]+, want ).*, want ", re.DOTALL)

# Where a message says that the value was found, such as a path. It comes last.
_PLACE = re.compile(r"(want [^:]*): .*", re.DOTALL)

# A value in the message of another library.
_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|\d+(\.\d+)?")


class Reports:
    """The kinds of failure that were reported. Any number of threads may share it."""

    def __init__(self) -> None:
        self._kinds: set[tuple[type, str]] = set()

    def warn(self, what: str, error: Exception) -> None:
        """Logs a warning if none of this kind was logged before.

        Raises no `Exception`, even if a handler of the training's own does, or if the error has no text.
        """
        with contextlib.suppress(Exception):
            text = _text_of(error)
            # The text of an `OSError` contains the path.
            strerror = error.strerror if isinstance(error, OSError) else None
            kind = (type(error), _kind_of(strerror or text))
            if kind in self._kinds or len(self._kinds) > _REPORTED_MAX:
                return
            self._kinds.add(kind)
            if len(self._kinds) > _REPORTED_MAX:
                _LOGGER.warning("%d kinds of failure were reported, others are not", _REPORTED_MAX)
            else:
                _LOGGER.warning("%s: %s: %s (reported once)", what, type(error).__name__, text)


def _text_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception:
        return "(no text)"


def _kind_of(text: str) -> str:
    """Returns the same for two messages that differ only in values: each call of `log` may have others."""
    return _VALUE.sub("#", _PLACE.sub(r"\1", _GOT.sub("want ", text)))
