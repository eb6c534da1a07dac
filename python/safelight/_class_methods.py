"""Constants and class methods of `wandb.Image`, under their own names."""

from __future__ import annotations

import sys
from typing import Any, Iterable

from ._choices import Profile
from ._native import native

__all__ = ["ClassMethods"]


class ClassMethods:
    """What `wandb.Image` has beside its constructor, as of release 0.10. It never needs a run.

    Source: wandb 0.10.20 `sdk/data_types.py`; `docs/spec/image.md` A, C.7 and E.
    """

    MAX_ITEMS = 108
    """Most images of one key and step. The daemon holds the others back; see its setting `limits.max_items`."""

    MAX_DIMENSION = 65500
    """Longest side of an image in pixels; see the setting `limits.max_dimension`."""

    artifact_type = "image-file"
    """The `_type` of a logged image. wandb names it `_log_type` since 0.11."""

    _log_type = artifact_type

    # Those of an `Image` that failed are empty.
    _fields: Any = {}
    _masks: Any = None

    @staticmethod
    def guess_mode(data: Any, *, profile: Profile | None = None) -> str:
        """Returns the mode of the picture that an array of this shape makes: `"L"`, `"LA"`, `"RGB"` or `"RGBA"`.

        `data` is anything with a `shape`; a torch tensor has channels first. A profile `"wandb-…"` guesses as that
        release, which takes a picture of one row for a gray one 3 pixels wide.

        Raises `ImportError` without the extension, `ValueError` if the shape makes no picture.
        """
        from ._develop import record
        from ._values import is_a

        shape = [int(n) for n in data.shape]
        return native().guess_mode(shape, record({"profile": profile}), is_a(data, "torch", "Tensor"))

    @staticmethod
    def to_uint8(data: Any, *, profile: Profile | None = None, range: Any = None) -> Any:
        """Converts an array to bytes as a picture's values are converted, without a look at its axes.

        Returns an array of uint8 of the same shape; a `memoryview` if NumPy is not imported. `profile` and `range`
        are those of `Image`: without them, [0, 1] becomes 0 to 255, and so does [−1, 1] if there are negative values;
        others are clipped.

        Raises `ImportError` without the extension, `TypeError` if `data` is no array of numbers on the CPU.
        """
        from ._develop import memory_of, record

        found = memory_of(data)
        memory, dtype, _ = (data, None, {}) if found is None else found
        content, shape = native().to_uint8(memory, record({"profile": profile, "range": range}), dtype)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            return numpy.frombuffer(bytearray(content), "u1").reshape(shape)
        return memoryview(content).cast("B", shape) if shape and content else memoryview(content)

    @staticmethod
    def all_captions(images: Iterable[Any]) -> Any:
        """Returns the caption of each image, `None` for one without. `False` if none has one."""
        return _all(images, lambda image: image._fields.get("caption"))

    @staticmethod
    def all_boxes(images: Iterable[Any], run: Any = None, run_key: Any = None, step: Any = None) -> Any:
        """Returns the sets of boxes of each image by name, `None` for one without. `False` if none has any.

        A set is what was given, as JSON. wandb writes files and returns references to them; here the daemon writes them
        later, so `run`, `run_key` and `step` have no effect.
        """
        return _all(images, lambda image: image._fields.get("boxes"))

    @staticmethod
    def all_masks(images: Iterable[Any], run: Any = None, run_key: Any = None, step: Any = None) -> Any:
        """Returns the masks of each image by name, `None` for one without. `False` if none has any.

        A mask is what was given beside its data, as JSON, and `{"_type": "mask"}`. `run`, `run_key` and `step` have
        no effect.
        """
        return _all(images, lambda image: _mask_sets(image._masks))


def _all(images: Iterable[Any], of: Any) -> Any:
    values = [of(image) or None for image in images]
    return values if any(value is not None for value in values) else False


def _mask_sets(masks: Any) -> Any:
    if isinstance(masks, list):
        return [_mask_sets(sets) for sets in masks]
    if not masks:
        return None
    left_out = ("mask_data", "path")
    return {
        name: {"_type": "mask", **{field: value for field, value in mask.items() if field not in left_out}}
        for name, mask in masks.items()
    }
