"""What can go wrong, by what the caller can do about it."""

from __future__ import annotations

import os
import re

__all__ = ["CatalogError", "NotInstalledError", "UsageError", "first_words", "needs"]

# The variables whose values no message may repeat.
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY")
# Longer messages are cut.
MESSAGE_MAX = 600


class CatalogError(Exception):
    """The command cannot do its work. The message says what was found, what was wanted and where."""


class UsageError(CatalogError):
    """An argument is wrong."""


class NotInstalledError(CatalogError):
    """A package is missing."""


def needs(package: str, extra: str = "safelight[catalog]") -> NotInstalledError:
    """The error for a package that is not installed."""
    return NotInstalledError(
        f"the Python package {package} is not installed, want it for the catalogue: pip install '{extra}'"
    )


def first_words(error: BaseException) -> str:
    """The message of an error in one line, without the debug output of a client and without secrets."""
    text = str(error).split("\n\nDebug source:")[0].strip() or type(error).__name__
    # delta-rs draws its causes in colors.
    text = re.sub(r"\s*↳\s*", ": ", re.sub(r"\x1b\[[0-9;]*m", "", text))
    text = " ".join(text.split())
    for name in SECRETS:
        value = os.environ.get(name)
        if value:
            text = text.replace(value, f"[{name}]")
    return text if len(text) <= MESSAGE_MAX else text[: MESSAGE_MAX - 1] + "…"
