"""Lets code that logs pictures with wandb run unchanged, and takes the encoding out of its loop.

    import safelight.wandb
    safelight.wandb.install("runs/{id}")
    …
    run.log({"loss": loss, "val": wandb.Image(x, caption="epoch 3")}, step=s)     # unchanged

`run.log` writes the row at once, with the name of a file that does not exist yet. The tensor goes to a run directory,
as `safelight.Run.log` writes it. The daemon develops it, and a thread of this process puts the finished picture where
the row says, and has wandb upload it. Without a daemon that thread makes the picture.

`docs/wandb.md` says what is handed over and what was tried.
"""

from __future__ import annotations

import logging
import os
from typing import get_args

from .._choices import Profile
from ._daemon import default_sockets
from ._names import Library, missing, profile_of
from ._on_import import after_import
from ._patches import Patches
from ._runs import Runs

__all__ = ["install", "install_on_import", "uninstall"]

_LOGGER = logging.getLogger("safelight")

_installed: Patches | None = None


def install(
    directory: str | os.PathLike[str] | None = None,
    *,
    profile: str | None = None,
    socket: str | os.PathLike[str] | None = None,
    finish_s: float | None = None,
) -> bool:
    """Hands the pictures of all W&B runs of this process over to Safelight. Call it before `wandb.init`.

    - `directory`: the run directory, which the daemon watches. `{id}` and `{project}` stand for those of the W&B run.
      Default: the variable `SAFELIGHT_WANDB`, else `runs/{id}`.
    - `profile`: the rule that turns values into pixels. Default: `SAFELIGHT_WANDB_PROFILE`, else the one of the
      installed wandb, such as `wandb-0.29`: W&B then gets the pixels that `wandb.Image` makes. `auto` scales values
      in [0, 1] and [-1, 1].
    - `socket`: the daemon's control socket. Default: `SAFELIGHT_SOCKET`, else where the user's own daemon or that of
      the machine listens by default.
    - `finish_s`: how long `run.finish()` waits for pictures, in seconds. Default: `SAFELIGHT_FINISH_S`, else 60.

    Returns `False`, with a warning, if the installed wandb lacks a name that is needed; it is then left as it is.
    A second call changes nothing. Raises `ImportError` if wandb is not installed, and `ValueError` for an unknown
    profile.
    """
    global _installed
    if _installed is not None:
        return True
    library = Library.installed()
    lacks = missing(library)
    if lacks:
        _LOGGER.warning("wandb %s is left as it is, it lacks: %s", library.version, "; ".join(lacks))
        return False
    environment = os.environ
    directory = os.fspath(directory or environment.get("SAFELIGHT_WANDB") or "runs/{id}")
    profile = profile or environment.get("SAFELIGHT_WANDB_PROFILE") or profile_of(library.version)
    assert profile is not None
    if profile not in get_args(Profile):
        raise ValueError(f"got profile {profile!r}, want {', '.join(get_args(Profile))}")
    if finish_s is None:
        finish_s = _seconds(environment.get("SAFELIGHT_FINISH_S"))
    sockets = [os.fspath(socket)] if socket else default_sockets()
    runs = Runs(library, os.path.abspath(directory), sockets, finish_s)
    _installed = Patches(library, profile, runs)
    _installed.apply()
    return True


def install_on_import() -> None:
    """Calls `install` once wandb is imported. No `Exception` of `install` reaches the training."""

    def then() -> None:
        try:
            install()
        except Exception as error:
            _LOGGER.warning("pictures are left to wandb: %s: %s", type(error).__name__, error)

    after_import("wandb", then)


def uninstall() -> None:
    """Gives wandb its own methods back. Call it after `run.finish()`.

    `finish` of a run that is still open then waits for no pictures: those that are not placed yet may miss the upload.
    An Image that was made before and not logged has no file, and cannot be logged any more.
    """
    global _installed
    if _installed is not None:
        _installed.undo()
        _installed = None


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text)) if text else 60.0
    except ValueError:
        _LOGGER.warning("SAFELIGHT_FINISH_S is %r, want a number of seconds: 60 is taken", text)
        return 60.0
