"""A tracker for `accelerate` that logs pictures into a Safelight run.

    import safelight.accelerate

    accelerator = Accelerator(log_with=["tensorboard", "safelight"], project_dir="runs")
    accelerator.init_trackers("digits", config={"lr": 0.01})
    accelerator.log({"loss": loss, "val/pred": safelight.Image(prediction)}, step=step)

Safelight's `docs/adapters.md` says more.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import os
from typing import Any, Mapping

import accelerate.tracking
from accelerate.tracking import GeneralTracker, on_main_process

from ._adapters import images_of, log_made
from ._run import Run

__all__ = ["SafelightTracker"]


class SafelightTracker(GeneralTracker):
    """Logs images from the main process, and ignores numbers.

    The run is in `logging_dir/run_name`, or in `dir`. `options` are those of `safelight.Run`; the project is
    `run_name`. `Accelerator.init_trackers` passes them on: `init_kwargs={"safelight": {"dir": "runs/7"}}`.
    """

    name = "safelight"
    requires_logging_directory = True

    def __init__(
        self,
        run_name: str,
        logging_dir: str | os.PathLike[str] = ".",
        dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._dir = os.path.join(logging_dir, run_name) if dir is None else dir
        self._options = {"project": run_name, **options}
        self._run: Run | None = None

    @property
    def tracker(self) -> Run:
        """The `safelight.Run`."""
        if self._run is None:
            self._run = Run(self._dir, **self._options)
        return self._run

    @on_main_process
    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        self.tracker.update(config=values)

    @on_main_process
    def log(self, values: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Logs the images in `values`. `kwargs` may have `commit`."""
        self.tracker.log(values, step=step, **kwargs)

    @on_main_process
    def log_images(self, values: Mapping[str, Any], step: int | None = None, **parameters: Any) -> None:
        """Logs lists of pictures, or arrays with a batch. `parameters` are those of `Image`."""
        for key, pictures in values.items():
            log_made(self.tracker, key, step, images_of, pictures, **parameters)

    @on_main_process
    def finish(self) -> None:
        if self._run is not None:
            self._run.finish()


# Before 1.15, pass `log_with=SafelightTracker("digits", "runs")` instead of the name.
if hasattr(accelerate.tracking, "register_tracker_class"):
    accelerate.tracking.register_tracker_class(SafelightTracker)
