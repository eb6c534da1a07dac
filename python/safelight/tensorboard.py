"""Pictures of a TensorBoard `SummaryWriter` of torch or tensorboardX, without an encoder in the training.

    class Writer(safelight.tensorboard.Pictures, SummaryWriter):
        pass

    writer = Writer("runs/7")
    writer.add_scalar("loss", loss, step)                # as before
    writer.add_image("val/pred", prediction, step)       # one raw write; Safelight makes the picture

Safelight's `docs/adapters.md` says more.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Callable, Mapping

from ._adapters import image_by_type, log_made
from ._grid import stacked
from ._image import Image
from ._run import Run

__all__ = ["Pictures"]


def _logged(axes: str) -> Callable[..., None]:
    """Returns a method that logs an array or a list of them. `axes` are the default."""

    def method(
        self: Pictures,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: Any = None,
        dataformats: str = axes,
    ) -> None:
        self._log_made(tag, global_step, self._image, img_tensor, dataformats)

    return method


class Pictures:
    """Logs the pictures of the `SummaryWriter` that comes after it, into a run in the writer's directory.

    The pictures are those of torch's `SummaryWriter`, within one of 256 levels: bytes are 0..255, all others
    lie in [0, 1], and `add_images` makes one contact sheet. Boxes are data beside the picture instead of lines in
    it, so `rescale` is ignored, and so is `walltime`. Nothing else of the writer changes.

    A subclass may set `safelight_parameters`, those of `Image` for all its arrays. `{"grid": None}` keeps the
    pictures of `add_images` apart, and with `{"range": None}` the daemon chooses the rule for floats. It may
    set `safelight_options`, those of `Run`.
    """

    safelight_parameters: Mapping[str, Any] = {}
    safelight_options: Mapping[str, Any] = {}

    _safelight_run: Run | None = None

    @property
    def safelight_run(self) -> Run:
        """The `safelight.Run` in the writer's directory."""
        if self._safelight_run is None:
            writer: Any = self
            folder = writer.logdir if hasattr(writer, "logdir") else writer.log_dir
            self._safelight_run = Run(folder, **self.safelight_options)
        return self._safelight_run

    add_image, add_images = _logged("CHW"), _logged("NCHW")

    def add_figure(
        self, tag: str, figure: Any, global_step: Any = None, close: bool = True, walltime: Any = None
    ) -> None:
        figures = figure if isinstance(figure, list) else [figure]
        self._log_made(tag, global_step, lambda: [Image(each) for each in figures])
        if close and "matplotlib.pyplot" in sys.modules:
            for each in figures:
                sys.modules["matplotlib.pyplot"].close(each)

    def add_image_with_boxes(self, *args: Any, **kwargs: Any) -> None:
        # The order of the parameters differs between torch and tensorboardX.
        writer: Any = super()
        call = inspect.signature(writer.add_image_with_boxes).bind(*args, **kwargs)
        call.apply_defaults()
        given = call.arguments

        def make() -> Image:
            boxes = {"boxes": _boxes(given["box_tensor"].tolist(), given["labels"])}
            return self._image(given["img_tensor"], given["dataformats"], boxes=boxes)

        self._log_made(given["tag"], given["global_step"], make)

    def flush(self) -> None:
        writer: Any = super()
        writer.flush()
        if self._safelight_run is not None:
            self._safelight_run.flush()

    def close(self) -> None:
        writer: Any = super()
        writer.close()
        # A writer may be used again after it was closed, so the run is not finished.
        if self._safelight_run is not None:
            self._safelight_run.flush()

    def _image(self, data: Any, axes: str, **parameters: Any) -> Image:
        if isinstance(data, (list, tuple)):
            data, axes = stacked(data), "N" + axes
        if "N" in axes.upper():
            parameters["grid"] = {"nrow": 8, "padding": 0}
        return image_by_type(data, axes, **{**parameters, **self.safelight_parameters})

    def _log_made(self, tag: str, step: Any, *make: Any) -> None:
        # tensorboardX has a switch for writers that write nothing, such as those of all ranks but one.
        if getattr(self, "_write_to_disk", True):
            log_made(self.safelight_run, tag, step, *make)


def _boxes(corners: list[list[float]], labels: str | list[str] | None) -> dict[str, Any]:
    """Boxes in pixels, as (xmin, ymin, xmax, ymax), in the form of `wandb.Image`. Each label is a class."""
    if isinstance(labels, str):
        labels = [labels]
    if labels is None or len(labels) != len(corners):
        labels = ["box"] * len(corners)
    ids = {label: i for i, label in enumerate(sorted(set(labels)))}
    boxes = []
    for (min_x, min_y, max_x, max_y), label in zip(corners, labels):
        position = {"minX": min_x, "maxX": max_x, "minY": min_y, "maxY": max_y}
        boxes.append({"position": position, "domain": "pixel", "class_id": ids[label], "box_caption": label})
    return {"box_data": boxes, "class_labels": {i: label for label, i in ids.items()}}
