"""Puts pictures into a W&B run that has ended: its process was killed, or its daemon was away."""

from __future__ import annotations

import os
from typing import NamedTuple

from ._daemon import Daemon, default_sockets
from ._names import Library
from ._place import Placer
from ._promises import Promises, names_of

__all__ = ["Report", "place"]

# Most pictures that the daemon is asked for at once.
_AT_ONCE = 64


class Report(NamedTuple):
    """What `place` did, in pictures."""

    n_there: int
    n_placed: int
    # By name, why it is missing.
    missing: dict[str, str]


def _folders(wandb_dir: str) -> dict[str, str]:
    """The files of the W&B runs at a path, by the name of their directory. The path is that of a `wandb` directory, of
    one run in it, or of the run's files."""
    path = os.path.realpath(wandb_dir)
    if os.path.basename(path) == "files":
        path = os.path.dirname(path)
    if os.path.isdir(os.path.join(path, "files")):
        return {os.path.basename(path): os.path.join(path, "files")}
    inner = os.path.join(path, "wandb")
    path = inner if os.path.isdir(inner) else path
    return {name: os.path.join(path, name, "files") for name in os.listdir(path) if "run-" in name}


def place(run_dir: str, wandb_dir: str, socket: str | None = None) -> Report:
    """Puts all pictures that `run_dir` promises to the W&B runs in `wandb_dir` into their files: from the store if a
    daemon answers, else made here. `wandb sync` then uploads those of offline runs.

    Raises `OSError` if a directory cannot be read, and `ValueError` if `run_dir` promises no pictures.
    """
    folders = _folders(wandb_dir)
    promises = Promises(run_dir)
    promises.update()
    if not promises.lines:
        raise ValueError(
            f"no log in {run_dir} promises pictures to a W&B run, want the run directory of the training"
        )
    daemon, library = Daemon([socket] if socket else default_sockets()), Library.installed()
    n_there, n_placed, missing = 0, 0, {}
    for folder in sorted({line["wandb"].get("dir") for line in promises.lines.values()}, key=str):
        lines = {name: line for name, line in promises.lines.items() if line["wandb"].get("dir") == folder}
        if folder not in folders:
            missing.update(dict.fromkeys(lines, f"no run {folder} in {wandb_dir}"))
            continue
        files = folders[folder]

        def is_there(name: str) -> bool:
            return all(os.path.exists(os.path.join(files, path)) for path in names_of(lines[name]))

        before = {name for name in lines if is_there(name)}
        placer = Placer(run_dir, folder, files, daemon, library, lambda names: None)
        waiting = sorted(set(lines) - before)
        for start in range(0, len(waiting), _AT_ONCE):
            placer.look(waiting[start : start + _AT_ONCE], 0.0, 0.0)
        after = {name for name in lines if is_there(name)}
        n_there, n_placed = n_there + len(before), n_placed + len(after - before)
        missing.update(dict.fromkeys(sorted(set(lines) - after), "its dump is missing or cannot be read"))
    return Report(n_there, n_placed, missing)
