"""A `MetricWriter` of CLU that logs pictures into a Safelight run.

    writer = metric_writers.MultiWriter([metric_writers.LoggingWriter(), SafelightWriter("runs/7")])
    writer.write_images(step, {"val/pred": predictions})

Safelight's `docs/adapters.md` says more.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import os
from typing import Any, Mapping

from clu.metric_writers import MetricWriter

from ._adapters import axes_of, image_by_type, log_made
from ._image import Image
from ._run import Run

__all__ = ["SafelightWriter"]


class SafelightWriter(MetricWriter):
    """Logs images and hyperparameters, and ignores everything else.

    `dir` and `options` are those of `safelight.Run`, which `run` is.
    """

    def __init__(self, dir: str | os.PathLike[str], **options: Any) -> None:
        self.run = Run(dir, **options)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Logs arrays of (H, W, C) or (N, H, W, C): bytes (uint8), or values in [0, 1] of any other type."""
        for key, image in images.items():
            log_made(self.run, key, step, _image, image)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self.run.update(config=hparams)

    def _ignore(self, *args: Any, **kwargs: Any) -> None:
        pass

    write_summaries = write_scalars = write_videos = write_audios = write_texts = write_histograms = _ignore

    def flush(self) -> None:
        self.run.flush()

    def close(self) -> None:
        self.run.finish()


def _image(data: Any) -> Image:
    return image_by_type(data, axes_of(data, "HWC", "NHWC"))
