"""Makes the files of a line without the daemon: by the extension if it is installed, else by wandb itself."""

from __future__ import annotations

import io
import json
import os
import sys
from importlib import import_module
from typing import Any, Mapping

from ._names import Library, profile_of

__all__ = ["encode"]


def _array(directory: str, data: Any) -> Any:
    """The array of a dump that a line names. Raises `OSError` or `ValueError` if it cannot be read."""
    numpy = import_module("numpy")
    data = {"path": data} if isinstance(data, str) else data
    path = os.path.join(directory, data["path"])
    if path.endswith(".npy"):
        return numpy.load(path, allow_pickle=False)
    order = "<" if data.get("byte_order", sys.byteorder) == "little" else ">"
    dtype = numpy.dtype(data["dtype"]).newbyteorder(order)
    n = int(numpy.prod(data["shape"], dtype=numpy.int64))
    return numpy.fromfile(path, dtype, n, offset=data.get("offset", 0)).reshape(data["shape"])


def _png(pixels: Any) -> bytes:
    file = io.BytesIO()
    import_module("PIL.Image").fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _by_extension(values: Any, line: Mapping[str, Any]) -> bytes | None:
    """`None` if the extension is not installed."""
    import safelight

    develop = getattr(safelight, "develop", None)
    if develop is None:
        return None
    names = ("profile", "format", "range")
    try:
        found: bytes = develop(values, **{name: line[name] for name in names if name in line}).png
    except ImportError:
        return None
    return found


def _by_wandb(library: Library, values: Any, line: Mapping[str, Any]) -> bytes:
    if "range" in line:
        # The pixels of a Pillow image.
        return _png(values[:, :, 0] if values.shape[2] == 1 else values)
    if line.get("format") == "CHW":
        values = values.transpose(1, 2, 0)
    image = library.image.__new__(library.image)
    is_unscaled = profile_of(library.version) == "wandb-0.20" and line.get("profile") == "wandb-0.29"
    library.image_init(image, values, **({"normalize": False} if is_unscaled else {}))
    with open(image._path, "rb") as file:
        content = file.read()
    os.unlink(image._path)
    return content


def encode(library: Library, directory: str, line: Mapping[str, Any]) -> dict[str, bytes]:
    """Returns the files of a line by their name in the run, masks included.

    Raises an `Exception` if the dump is missing or cannot be read.
    """
    files = line["wandb"]["files"]
    values = _array(directory, line["data"])
    picture = _by_extension(values, line)
    made = {files["image"]: _by_wandb(library, values, line) if picture is None else picture}
    masks = line.get("masks", {})
    if isinstance(masks.get("path"), str):
        # Large annotations lie in a file.
        with open(os.path.join(directory, masks["path"]), encoding="utf-8") as file:
            masks = json.load(file)
    for name, path in files.get("masks", {}).items():
        made[path] = _png(_array(directory, masks[name]["mask_data"]))
    return made
