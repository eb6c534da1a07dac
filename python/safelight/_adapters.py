"""Functions that the adapters for other libraries share."""

from __future__ import annotations

from typing import Any, Callable

from ._image import Image
from ._run import Run

__all__ = ["axes_of", "image_by_type", "images_of", "log_made"]

# The orders of axes that a log line can name.
_FORMATS = ("HW", "HWC", "CHW", "NHW", "NHWC", "NCHW")


def images_of(pictures: Any, **parameters: Any) -> Any:
    """An `Image` of each picture in a list, or one of an array, which may hold a batch."""
    if isinstance(pictures, (list, tuple)):
        return [Image(picture, **parameters) for picture in pictures]
    return Image(pictures, **parameters)


def image_by_type(data: Any, axes: str, **parameters: Any) -> Image:
    """An `Image` of an array whose type says what its values mean: bytes (uint8) are 0..255, others lie in [0, 1].

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
    if str(getattr(data, "dtype", "uint8")).rpartition(".")[2] != "uint8":
        parameters = {"range": (0, 1), **parameters}
    return Image(data, **{"format": axes, **parameters})


def axes_of(data: Any, *formats: str) -> str:
    """The one of `formats` that has as many axes as an array. Raises `ValueError` if none has."""
    n = len(data.shape)
    for axes in formats:
        if len(axes) == n:
            return axes
    raise ValueError(f"got {n} axes, want {' or '.join(formats)}")


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
