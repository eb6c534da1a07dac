"""A logger for Lightning's `Trainer` that logs pictures into a Safelight run.

    logger = safelight.lightning.SafelightLogger("runs/7", project="digits")
    trainer = Trainer(logger=[CSVLogger("logs"), logger])
    logger.log_image("val/pred", [prediction], caption=["epoch 3"])

Safelight's `docs/adapters.md` says more.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any, Mapping

from ._adapters import log_made
from ._image import Image
from ._run import Run

__all__ = ["SafelightLogger"]


def _lightning(module: str) -> Any:
    """A module of Lightning, which has two names: that of the package which the training uses."""
    names = ["lightning.pytorch", "pytorch_lightning"]
    is_installed = importlib.util.find_spec("lightning") is not None
    name = next((name for name in names if name in sys.modules), names[0 if is_installed else 1])
    return importlib.import_module(f"{name}.{module}")


_logger, _utilities = _lightning("loggers.logger"), _lightning("utilities")


class SafelightLogger(_logger.Logger):
    """Logs images from the process of rank 0, and ignores numbers.

    `dir` and `options` are those of `safelight.Run`, which `experiment` returns. The logger never finishes
    the run, because another `fit` or `test` may follow. `experiment.finish()` does.
    """

    def __init__(self, dir: str | os.PathLike[str], **options: Any) -> None:
        super().__init__()
        self._dir, self._options = os.path.abspath(dir), options
        self._run: Run | None = None
        self._step: int | None = None

    @property
    @_logger.rank_zero_experiment
    def experiment(self) -> Any:
        """The `safelight.Run`. On all ranks but 0, an object that ignores every call."""
        if self._run is None:
            self._run = Run(self._dir, **self._options)
        return self._run

    @property
    def save_dir(self) -> str:
        return self._dir

    # Checkpoints go to `save_dir/name/version/checkpoints`.
    name = version = ""

    @_utilities.rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Merges the hyperparameters into the run's `config`."""
        self.experiment.update(config=params)

    @_utilities.rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs the images in `metrics`. Without a step, they belong to the step that was given last."""
        self._step = self._step if step is None else step
        self.experiment.log(metrics, step=self._step)

    def finalize(self, status: str) -> None:
        """Waits until all that was logged is written."""
        if self._run is not None:
            self._run.flush()

    @_utilities.rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **lists: list[Any]) -> None:
        """Logs a list of images, as `WandbLogger.log_image` does.

        `lists` have a value for each image, such as `caption`, `boxes` or `masks`. Without a step, the images
        belong to the last step of `log_metrics`: in `training_step` that is an earlier one.
        """
        step = self._step if step is None else step
        # Before the first step, and in a loop that names none, several calls belong to one step.
        log_made(self.experiment, key, step, _images, images, lists, commit=False)


def _images(pictures: Any, lists: Mapping[str, Any]) -> list[Image]:
    """Raises `TypeError` if `pictures` is no list, `ValueError` if another list has a different length."""
    if not isinstance(pictures, list):
        raise TypeError(f"got images of type {type(pictures).__name__}, want a list")
    for name, values in lists.items():
        if len(values) != len(pictures):
            raise ValueError(f"got {len(values)} values of {name}, want {len(pictures)}")
    return [
        Image(picture, **{name: values[i] for name, values in lists.items()})
        for i, picture in enumerate(pictures)
    ]
