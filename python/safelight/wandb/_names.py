"""The private names of wandb that this package needs. Its other modules take them from here.

They are the same in wandb 0.19.11 to 0.31.0. `missing` tells which an installed release lacks.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
from importlib import import_module
from typing import Any, Callable, Mapping, NamedTuple, Sequence

__all__ = ["LAZY", "Library", "missing", "profile_of", "publish", "run_folder", "settings_of"]

# Attributes of a media object that describe its file.
LAZY = ("_path", "_is_tmp", "_extension", "_sha256", "_size")


class Library(NamedTuple):
    """The classes and functions of the installed wandb."""

    version: str
    image: Any
    mask: Any
    media: Any
    run: Any
    interface: Any
    # `(key, step, id, extension)` to the file name of a media object, with slashes where `key` has them.
    # `None` if the installed release has no such function.
    file_name: Callable[[Any, Any, Any, str], str] | None
    # The constructors of `image` and `mask`, which encode.
    image_init: Callable[..., None]
    mask_init: Callable[..., None]

    @classmethod
    @functools.lru_cache(maxsize=None)
    def installed(cls) -> Library:
        """Raises `ImportError` if wandb is missing, or has other modules. Called before anything is replaced."""
        wandb = import_module("wandb")
        media = import_module("wandb.sdk.data_types.base_types.media")
        image, mask = wandb.Image, import_module("wandb.sdk.data_types.helper_types.image_mask").ImageMask
        return cls(
            version=wandb.__version__,
            image=image,
            mask=mask,
            media=media.Media,
            run=import_module("wandb.sdk.wandb_run").Run,
            interface=import_module("wandb.sdk.interface.interface").InterfaceBase,
            file_name=getattr(media, "_wb_filename", None),
            image_init=image.__init__,
            mask_init=mask.__init__,
        )


_BIND = ("self", "run", "key", "step", "id_", "ignore_copy_err")

# For each function that is replaced or called: the parameters that it must begin with.
_WANTED: Sequence[tuple[str, str, Sequence[str]]] = (
    (
        "image",
        "__init__",
        ("self", "data_or_path", "mode", "caption", "grouping", "classes", "boxes", "masks"),
    ),
    ("image", "bind_to_run", _BIND),
    ("image", "to_json", ("self",)),
    ("image", "seq_to_json", ("seq", "run", "key", "step")),
    ("mask", "__init__", ("self", "val", "key")),
    ("mask", "bind_to_run", _BIND),
    ("mask", "validate", ("self", "val")),
    ("media", "bind_to_run", _BIND),
    ("media", "to_json", ("self", "run")),
    ("media", "get_media_subdir", ()),
    ("run", "log", ("self", "data", "step", "commit")),
    ("run", "_finish", ("self", "exit_code")),
    ("interface", "publish_files", ("self", "files_dict")),
)


# The attribute of a run that talks to wandb's service, and the one that has it in its `interface`. Both are set by the
# instance: the class only annotates them.
_INTERFACE = ("_interface", "_backend")


def missing(library: Library) -> list[str]:
    """Returns what the installed wandb lacks, as text. If it is empty, the pictures can be handed over."""
    lacks = (
        [] if profile_of(library.version) else [f"a version from 0.19 on, without 0.20.0 ({library.version})"]
    )
    for owner, name, parameters in _WANTED:
        found = getattr(getattr(library, owner), name, None)
        try:
            has = tuple(inspect.signature(found).parameters) if callable(found) else None
        except ValueError:
            has = None
        if has is None or has[: len(parameters)] != tuple(parameters):
            lacks.append(f"{owner}.{name}({', '.join(parameters)})")
    if not callable(library.file_name):
        lacks.append("media._wb_filename")
    if not isinstance(inspect.getattr_static(library.image, "image", None), property):
        lacks.append("image.image")
    lacks += [f"run.{name}" for name in ("dir", "offline", "id") if not hasattr(library.run, name)]
    if not any(name in library.run.__annotations__ for name in _INTERFACE):
        lacks.append(f"run.{_INTERFACE[0]}")
    if any(hasattr(kind, "__getattr__") for kind in (library.image, library.mask)):
        lacks.append("media without __getattr__")
    return lacks


def profile_of(version: str) -> str | None:
    """The profile with the arithmetic of this release; `None` if there is none.

    Source: `docs/wandb.md`. Release 0.20.0 had a rule of its own, which was withdrawn.
    """
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None:
        return None
    release = tuple(map(int, numbers.groups()))
    if release < (0, 19, 0) or release == (0, 20, 0):
        return None
    return "wandb-0.10" if release < (0, 20, 0) else "wandb-0.20" if release < (0, 29, 0) else "wandb-0.29"


def publish(run: Any, names: Sequence[str]) -> None:
    """Tells wandb's service that these files of the run exist, paths relative to `run.dir`, in one record.

    Source: wandb 0.31.0 and 0.20.1 `sdk/wandb_run.py`, `_publish_file`.
    """
    own, backend = _INTERFACE
    interface = getattr(run, own, None) or getattr(getattr(run, backend, None), "interface", None)
    if interface is not None and names:
        interface.publish_files({"files": [(name, "now") for name in names]})


def run_folder(run: Any) -> str:
    """The name of the run's directory in the `wandb` directory, such as `run-20261129_181333-abc`."""
    return os.path.basename(os.path.dirname(os.path.abspath(str(run.dir))))


def settings_of(run: Any) -> Mapping[str, Any]:
    """What describes the run, for `safelight.Run`."""
    names = {
        "project": "project",
        "entity": "entity",
        "name": "name",
        "group": "group",
        "job_type": "job_type",
    }
    found = {ours: getattr(run, theirs, None) or None for ours, theirs in names.items()}
    tags = getattr(run, "tags", None)
    config = {key: value for key, value in dict(run.config).items() if not key.startswith("_")}
    return {**found, "tags": list(tags) if tags else None, "config": config or None}
