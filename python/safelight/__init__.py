"""Logs the tensors and images of a training run unchanged, for Safelight to turn into pictures.

    run = safelight.Run("runs/7", project="digits")
    run.log({"loss": loss, "val/pred": safelight.Image(prediction, caption="epoch 3")})

The training pays for one raw write. The daemon, a separate process, then makes the picture that
`wandb.Image` would have made. This module never imports NumPy, torch, Pillow or matplotlib: a caller that passes in
one of their objects has imported the library already.

Safelight's `docs/run-directory.md` describes the files, and `docs/python.md` the use.
"""

from __future__ import annotations

from ._develop import Picture, develop
from ._grid import save_image
from ._image import Image
from ._run import Run

__all__ = ["Image", "Picture", "Run", "develop", "save_image"]
__version__ = "0.1.0"
