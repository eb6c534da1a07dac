"""Images: what a training gives to `Run.log`."""

from __future__ import annotations

import os
from typing import Any, Iterator, Mapping, Sequence

from ._choices import Alpha, Colormap, Compression, FileType, Format, Mode, Profile
from ._class_methods import ClassMethods
from ._dumps import Dump, dump_from, dump_from_mask, dump_from_path
from ._options import box_problems, option_problem
from ._values import is_a, plain

__all__ = ["ANNOTATIONS", "TEXTS", "Image", "dumps_in"]

# Fields of a line that may stand in a file, and those that are left out of a line that is still too long.
ANNOTATIONS = ("boxes", "masks", "classes")
TEXTS = ("caption", "grouping")


def dumps_in(masks: Any) -> Iterator[Dump]:
    """Yields the dumps in the result of `mask_sets`."""
    if isinstance(masks, Dump):
        yield masks
    elif isinstance(masks, (list, dict)):
        for item in masks.values() if isinstance(masks, dict) else masks:
            yield from dumps_in(item)


def mask_sets(masks: Any, is_donated: bool, left_out: dict[str, Exception]) -> Any:
    """`masks` in the form of a log line, with a `Dump` in place of each path. A list is for a batch.

    `is_donated` says that nobody changes their arrays any more. A mask that cannot be used is added to `left_out`
    instead, with the reason.
    """
    if isinstance(masks, (list, tuple)):
        return [sets and mask_sets(sets, is_donated, left_out) for sets in masks]
    if not isinstance(masks, Mapping):
        kind = type(masks).__name__
        left_out["masks"] = TypeError(f"got masks of type {kind}, want a dict of masks by name")
        return None
    sets = {}
    for name, mask in masks.items():
        try:
            sets[str(name)] = _mask(mask, is_donated)
        except Exception as error:
            left_out[f"masks/{name}"] = error
    return sets


def _mask(mask: Any, is_donated: bool) -> dict[str, Any]:
    """Raises `TypeError` if a mask is no dict, or has neither `mask_data` nor `path`."""
    if not isinstance(mask, Mapping) or not ("mask_data" in mask or "path" in mask):
        raise TypeError(
            f'got a {type(mask).__name__} as a mask, want {{"mask_data": array}} or {{"path": file}}'
        )
    fields = {str(name): plain(value) for name, value in mask.items() if name not in ("mask_data", "path")}
    if "path" in mask:
        fields["path"] = dump_from_path(os.fsdecode(mask["path"]))
    else:
        fields["mask_data"] = dump_from_mask(mask["mask_data"], is_donated)
    return fields


class Image(ClassMethods):
    """A picture, or a batch of pictures, to log.

    The first eight parameters are those of `wandb.Image` 0.31, in the same order. An `Image` copies its
    data, so you may change or close the original afterwards, unless you `donate` it. The constructor never raises an
    `Exception`: `Run.log` reports the error when the `Image` is logged.

    `data_or_path` is one of

    - an array: NumPy, TensorFlow, JAX, CuPy or nested lists, of any shape, strides and number type;
      axes are (H, W), (H, W, C) or (C, H, W), or a batch of these; `format` names the axes, otherwise
      they are guessed from the shape; C is 1 to 4;
    - a torch tensor, on any device, with or without gradient: (H, W), (C, H, W) or (N, C, H, W),
      otherwise the axes are guessed from the shape;
    - a Pillow image; its values are never scaled;
    - an image file: its path, its bytes, or an object with `read()`; stored byte for byte;
    - a matplotlib figure, axes, or `pyplot` itself;
    - another `Image`: a copy of it; the parameters given here replace its own.

    Safelight's `docs/run-directory.md` describes each parameter. In short:

    - `mode`: `"L"`, `"LA"`, `"RGB"`, `"RGBA"`, `"1"` or `"I;16"`; for arrays and Pillow images.
    - `caption`, `grouping`: stored with the picture. For a batch, a list with one for each.
    - `classes`: `[{"id": 1, "name": "car"}]`, or a `wandb.Classes`.
    - `boxes`: `{"pred": {"box_data": [{"position": …, "class_id": 1}], "class_labels": {1: "car"}}}`.
      Numbers of NumPy and torch are fine. For a batch, a list.
    - `masks`: `{"gt": {"mask_data": array, "class_labels": {0: "road"}}}`, with class ids in (H, W); or
      `{"gt": {"path": file}}`, a ready mask. For a batch, a list.
    - `file_type`: `"png"`, `"jpg"`, `"jpeg"`, `"bmp"` or `"webp"`; `quality`: 1 to 100, for jpg. Image
      files and figures keep their type.
    - `compression`: `"fast"` or `"small"`, for png; `palette`: `True` stores an image of at most 256
      colours with a palette.
    - `profile`: the rule that turns values into bytes: `"auto"`, `"wandb-0.10"`, `"wandb-0.20"` or
      `"wandb-0.29"`.
    - `normalize`: the option of `wandb.Image` 0.20 to 0.28, which selects a `profile`: `True` is
      `"wandb-0.20"` (values in [0, 1] or [−1, 1] are scaled), `False` is `"wandb-0.29"` (values are
      bytes already; the same arithmetic, bit for bit). If both are given, `profile` wins.
    - `range`: `(low, high)`, the values that become 0 and 255, with any profile.
    - `format`: the meaning of each axis: `"HW"`, `"HWC"`, `"CHW"`, `"NHW"`, `"NHWC"` or `"NCHW"`.
    - `colormap`, `nan_color`: `"viridis"`, … and `"#rrggbb"`; for images of one channel.
    - `alpha`: `"keep"`, `"drop"` or `"composite"`; `background`: `"#rrggbb"`.
    - `grid`: `True` or `{"nrow": 8, "padding": 2}` makes one contact sheet of a batch.
    - `downscale`: the longest side, in pixels.
    - `donate`: `True` says that you give the arrays away, those of masks too: nothing changes them after this
      call, and so they need not be copied. For arrays of NumPy and torch in C order.
    """

    _dump: Dump
    _fields: Mapping[str, Any]
    # Bytes of the picture and its masks, and whether some are still on their way from another device.
    _n_bytes: int = 0
    _is_pending = False
    # The result of `mask_sets`.
    _masks: Any = None
    # Captions and annotations that cannot be logged, with the reason.
    _left_out: Mapping[str, Exception] = {}
    # The reason why there is no picture. If it is set, `_dump` may be missing.
    _error: Exception | None = None

    def __init__(
        self,
        data_or_path: Any,
        mode: Mode | None = None,
        caption: Any = None,
        grouping: Any = None,
        classes: Any = None,
        boxes: Any = None,
        masks: Any = None,
        file_type: FileType | None = None,
        *,
        normalize: bool | None = None,
        format: Format | None = None,
        profile: Profile | None = None,
        range: Sequence[float] | None = None,
        colormap: Colormap | None = None,
        nan_color: str | None = None,
        quality: int | None = None,
        compression: Compression | None = None,
        palette: bool | None = None,
        alpha: Alpha | None = None,
        background: str | None = None,
        grid: bool | Mapping[str, int] | None = None,
        downscale: int | None = None,
        donate: bool = False,
    ) -> None:
        # fmt: off
        if (
            mode is None and caption is None and grouping is None and classes is None and boxes is None
            and masks is None and file_type is None and normalize is None and format is None
            and profile is None and range is None and colormap is None and nan_color is None
            and quality is None and compression is None and palette is None and alpha is None
            and background is None and grid is None and downscale is None
            and not isinstance(data_or_path, Image)
        ):
            # fmt: on
            # By far the most common, and 64 of these may stand in one call of `log`.
            try:
                dump = self._dump = dump_from(data_or_path, donate)
            except Exception as error:
                self._error = error
                return
            self._fields, self._n_bytes, self._is_pending = (
                dump.fields,
                dump.n_bytes,
                dump.pending is not None,
            )
            return
        try:
            if profile is None and normalize is not None:
                profile = "wandb-0.20" if normalize else "wandb-0.29"
            given = {
                # As in wandb, an empty text counts as not given.
                "mode": mode or None,
                "file_type": file_type or None,
                "caption": caption,
                "grouping": grouping,
                "classes": getattr(classes, "_class_set", classes),
                "boxes": boxes or None,
                "format": format,
                "profile": profile,
                "range": range,
                "colormap": colormap,
                "nan_color": nan_color,
                "quality": quality,
                "compression": compression,
                "palette": palette,
                "alpha": alpha,
                "background": background,
                "grid": grid,
                "downscale": downscale,
            }
            fields: dict[str, Any] = {}
            left_out: dict[str, Exception] = {}
            for name, value in given.items():
                try:
                    if value is not None:
                        fields[name] = plain(value)
                except Exception as error:
                    if name not in TEXTS + ANNOTATIONS:
                        raise
                    left_out[name] = error
            replaced = {*fields, *left_out, *(["masks"] if masks else [])}
            self._take(data_or_path, donate, fields, replaced, left_out)
            if masks:
                self._masks = mask_sets(masks, donate, left_out)
            for dump in dumps_in([self._dump, self._masks]):
                self._n_bytes += dump.n_bytes
                self._is_pending |= dump.pending is not None
            self._left_out = {**self._left_out, **left_out}
        except Exception as error:
            self._error = error

    def __repr__(self) -> str:
        if self._error is not None:
            return f"<safelight.Image that failed: {type(self._error).__name__}: {self._error}>"
        dump = self._dump
        what = f"of {dump.n_bytes} bytes" if dump.shape is None else f"of shape {dump.shape}"
        fields = "".join(f", {name} {value!r:.40}" for name, value in self._fields.items())
        return f"<safelight.Image {what}{fields}>"

    def _take(
        self,
        data: Any,
        is_donated: bool,
        given: dict[str, Any],
        replaced: set[str],
        left_out: dict[str, Exception],
    ) -> None:
        """Sets the dump and the fields of its line. Fields in `given` replace those of `data`. What
        another `Image` left out is still left out, unless it is `replaced`. Adds to `left_out` what the daemon
        would reject."""
        if isinstance(data, Image):
            if data._error is not None:
                raise data._error
            self._dump, self._masks, own = data._dump, data._masks, data._fields
            self._left_out = {
                name: error
                for name, error in data._left_out.items()
                if name.partition("/")[0] not in replaced
            }
        else:
            if "mode" in given and is_a(data, "PIL.Image", "Image"):
                data = data.convert(given.pop("mode"))
            self._dump = dump_from(data, is_donated)
            own = self._dump.fields
        if self._dump.shape is None:
            # An image file is stored unchanged. wandb ignores these two for files as well.
            given = {name: value for name, value in given.items() if name not in ("mode", "file_type")}
        refused = {name: problem for name, value in given.items() if (problem := option_problem(name, value))}
        if "format" in refused:
            # Without it the array may be read as something else.
            raise ValueError(refused["format"])
        for name, problem in refused.items():
            left_out[name] = ValueError(problem)
            del given[name]
        for place, problem in box_problems(given.get("boxes")).items():
            left_out[place] = ValueError(problem)
        self._fields = {**own, **given}
