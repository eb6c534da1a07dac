"""A visualization backend for MMEngine that logs pictures into a Safelight run.

In the training's configuration:

    custom_imports = dict(imports=["safelight.mmengine"])
    visualizer = dict(type="Visualizer", vis_backends=[dict(type="SafelightVisBackend", dir="runs/7")])

Safelight's `docs/adapters.md` says more.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import os
from typing import Any

from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend, force_init_env

from ._adapters import axes_of, log_made
from ._image import Image
from ._run import Run

__all__ = ["SafelightVisBackend"]


@VISBACKENDS.register_module()
class SafelightVisBackend(BaseVisBackend):
    """Logs the images of a `Visualizer`, and ignores numbers.

    The run is in `dir`, by default in the visualizer's `vis_data`. `options` are those of `safelight.Run`.
    """

    def __init__(
        self, save_dir: str | None = None, dir: str | os.PathLike[str] | None = None, **options: Any
    ) -> None:
        super().__init__(save_dir)
        self._dir, self._options = dir or save_dir or "vis_data", options

    def _init_env(self) -> None:
        self._run = Run(self._dir, **self._options)

    @property
    @force_init_env
    def experiment(self) -> Run:
        """The `safelight.Run`."""
        return self._run

    @force_init_env
    def add_config(self, config: Any, **kwargs: Any) -> None:
        self._run.update(config=config.to_dict())

    @force_init_env
    def add_image(self, name: str, image: Any, step: int = 0, **kwargs: Any) -> None:
        """Logs an image: (H, W), (H, W, 1), (H, W, 3) as RGB or (H, W, 4). Bytes, or floats by the rule `auto`."""
        log_made(self._run, name, step, _image, image)

    def close(self) -> None:
        if self._env_initialized:
            self._run.finish()
            # A visualizer may be used again after it was closed.
            self._env_initialized = False


def _image(data: Any) -> Image:
    return Image(data, format=axes_of(data, "HW", "HWC"))
