"""What the adapters for other libraries share."""

from __future__ import annotations

import sys
from typing import Any, Callable

from ._image import Image
from ._run import Run

__all__ = ["image_by_type", "images_of", "log_made", "stacked"]

# The orders of axes that a log line can name.
_FORMATS = ("HW", "HWC", "CHW", "NHW", "NHWC", "NCHW")


def images_of(pictures: Any, **parameters: Any) -> Any:
    """An `Image` of each picture in a list, or one of an array, which may hold a batch."""
    if isinstance(pictures, (list, tuple)):
        return [Image(picture, **parameters) for picture in pictures]
    return Image(pictures, **parameters)


def image_by_type(data: Any, axes: str, **parameters: Any) -> Image:
    """An `Image` of an array whose type says what its values mean: floats lie in [0, 1], others in 0..255.

    `axes` is any order of H, W and, optionally, C and N; raises `ValueError` for others. `parameters` are
    those of `Image`, and win; a `None` takes the default back.

    Source: torch 2.15 `utils/tensorboard/summary.py`, `image`, which truncates to bytes. The daemon rounds.
    """
    axes = axes.upper()
    if axes not in _FORMATS:
        known = "".join(axis for axis in "NHWC" if axis in axes)
        if sorted(axes) != sorted(known) or known not in _FORMATS:
            raise ValueError(f"got axes {axes!r}, want H and W, with or without C and N, each once")
        # torch's `transpose` swaps two axes.
        reorder = data.permute if hasattr(data, "permute") else data.transpose
        data, axes = reorder(tuple(axes.index(axis) for axis in known)), known
    # NumPy, torch and JAX all name their types.
    if "float" in str(getattr(data, "dtype", "")):
        parameters = {"range": (0, 1), **parameters}
    return Image(data, **{"format": axes, **parameters})


def stacked(tensors: Any) -> Any:
    """An array with a batch axis of NumPy arrays or torch tensors of one shape."""
    return sys.modules[type(tensors[0]).__module__.partition(".")[0]].stack(tensors)


def log_made(
    run: Run,
    key: str,
    step: Any,
    make: Callable[..., Any],
    *args: Any,
    commit: bool | None = None,
    **kwargs: Any,
) -> bool:
    """Logs what `make(*args, **kwargs)` returns. If it fails, reports that as a failure of the run."""
    try:
        made = make(*args, **kwargs)
    except Exception as error:
        run._report(key, error)
        return False
    return run.log({key: made}, step=step, commit=commit)
