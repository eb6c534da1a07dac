"""A writer for Detectron2's events that logs pictures into a Safelight run.

    class Trainer(DefaultTrainer):
        def build_writers(self):
            return [SafelightWriter(self.cfg.OUTPUT_DIR), *super().build_writers()]

Safelight's `docs/adapters.md` says more.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import os
from typing import Any

from detectron2.utils.events import EventWriter, get_event_storage

from ._adapters import image_by_type, log_made
from ._run import Run

__all__ = ["SafelightWriter"]


class SafelightWriter(EventWriter):
    """Logs what `EventStorage.put_image` was given: (3, H, W), bytes (uint8), or values in [0, 1] of any other type.

    The first writer that takes the images clears them, so this one must come before `TensorboardXWriter`.
    `dir` and `options` are those of `safelight.Run`, which `run` is.
    """

    def __init__(self, dir: str | os.PathLike[str], **options: Any) -> None:
        self.run = Run(dir, **options)

    def write(self) -> None:
        storage = get_event_storage()
        for key, image, step in storage._vis_data:
            log_made(self.run, key, step, image_by_type, image, "CHW")
        storage.clear_images()

    def close(self) -> None:
        self.run.finish()
