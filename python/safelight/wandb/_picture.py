"""Decides which pictures and masks are handed over, and in which form.

Only those are for which the daemon makes the same pixels as the installed release of wandb. All others are left to
wandb, which then encodes them, or raises, as it does without Safelight.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any, NamedTuple

from .._dumps import Dump, dump_from_mask
from .._image import Image
from .._values import is_a

__all__ = ["Handover", "mask_of", "picture_of"]

# Pillow's modes whose bytes are the pixels.
_PILLOW_MODES = ("L", "LA", "RGB", "RGBA")

# Metadata that Pillow writes into a PNG file by itself.
_PILLOW_EXTRAS = ("icc_profile", "exif")


class _Size(NamedTuple):
    """Stands for a Pillow image where only the size is asked for."""

    size: tuple[int, int]


class Handover:
    """The values of an object of wandb whose file does not exist yet."""

    def __init__(self, dump: Dump, picture: Image | None, size: tuple[int, int], extension: str) -> None:
        self.dump = dump
        # `None` for a mask.
        self.picture = picture
        # Width and height.
        self.size = size
        self.extension = extension
        # The promised file, relative to the run's files, once the object is bound to a run.
        self.name: str | None = None
        # Whether the values are those of a Pillow image.
        self.is_pillow = False
        # Options with which wandb encodes the picture.
        self.options: dict[str, Any] = {}

    def stand_in(self) -> _Size:
        return _Size(self.size)

    def values(self) -> Any:
        """What wandb encodes: a NumPy array with the axes that it expects, or a Pillow image."""
        numpy = import_module("numpy")
        values = numpy.load(io.BytesIO(b"".join(bytes(part) for part in self.dump.content())))
        if not self.is_pillow:
            return values.transpose(1, 2, 0) if self.dump.fields.get("format") == "CHW" else values
        return import_module("PIL.Image").fromarray(values[:, :, 0] if values.shape[2] == 1 else values)


def _array_format(values: Any) -> tuple[Any, str] | None:
    """A NumPy array without axes of length 1, as wandb reads it, and the meaning of its axes; `None` if it is left
    to wandb."""
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8 or values.size == 0:
        return None
    if values.ndim > 2:
        values = values.squeeze()
    if values.ndim == 2:
        return values, "HW"
    return (values, "HWC") if values.ndim == 3 and values.shape[2] in (3, 4) else None


def _is_plain_tensor(data: Any) -> bool:
    """Whether a torch tensor is one of channels first whose axes wandb does not drop."""
    return (
        type(data).__name__ == "Tensor"
        and data.ndim == 3
        and data.shape[0] in (1, 3, 4)
        and min(data.shape[1:]) > 1
        and str(data.dtype).replace("torch.", "")
        in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
    )


def picture_of(data: Any, mode: Any, file_type: Any, normalize: Any, profile: str) -> Handover | None:
    """`None` if the picture is left to wandb.

    `profile` is that of the installed release, unless the user asked for another one.
    """
    if file_type not in (None, "", "png"):
        return None
    if normalize is False and profile == "wandb-0.20":
        profile = "wandb-0.29"
    fields = {"profile": profile}
    is_pillow = False
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if type(data) is getattr(sys.modules.get("numpy"), "ndarray", None):
        found = _array_format(data)
        # With NumPy 2, releases that scale fail on int8 pictures of 0 and 1.
        if found is None or (profile == "wandb-0.20" and data.dtype.kind == "i" and data.dtype.itemsize == 1):
            return None
        data, fields["format"] = found
        height, width = data.shape[:2]
        own_mode = modes[1 if data.ndim == 2 else data.shape[2]]
    elif is_a(data, "torch", "Tensor"):
        # Before 0.20 wandb made a sheet of a tensor.
        if profile == "wandb-0.10" or not _is_plain_tensor(data):
            return None
        (height, width), own_mode = data.shape[1:], modes[data.shape[0]]
    elif is_a(data, "PIL.Image", "Image"):
        if data.mode not in _PILLOW_MODES or any(name in data.info for name in _PILLOW_EXTRAS):
            return None
        # wandb ignores the mode that is given with a Pillow image.
        (width, height), own_mode, mode, is_pillow = data.size, data.mode, None, True
        if width * height == 0:
            return None
    else:
        return None
    if mode not in (None, "", own_mode):
        return None
    picture = Image(data, **fields)  # type: ignore[arg-type]
    if picture._error is not None or picture._dump.shape is None:
        return None
    made = Handover(picture._dump, picture, (int(width), int(height)), ".png")
    made.is_pillow = is_pillow
    made.options = {} if normalize is None else {"normalize": normalize}
    return made


def mask_of(values: Any) -> Handover | None:
    """A mask of class ids that wandb has validated; `None` if it is left to wandb."""
    numpy = sys.modules["numpy"]
    if (
        type(values) is not numpy.ndarray
        or values.dtype.kind not in "biu"
        or values.ndim != 2
        or values.size == 0
    ):
        return None
    dump = dump_from_mask(values.astype(numpy.uint8))
    height, width = values.shape
    return Handover(dump, None, (width, height), ".mask.png")
