"""The names that the daemon accepts. A test of the daemon writes this file.

SAFELIGHT_UPDATE=1 cargo test --test it python::the_choices
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "Alpha",
    "Colormap",
    "Compression",
    "FileType",
    "Format",
    "Mode",
    "Profile",
]

Alpha = Literal[
    "keep",
    "drop",
    "composite",
]
Colormap = Literal[
    "gray",
    "viridis",
    "magma",
    "inferno",
    "plasma",
    "cividis",
    "turbo",
    "cubehelix",
    "blues",
    "greens",
    "greys",
    "oranges",
    "purples",
    "reds",
    "spectral",
    "rdbu",
    "rdylbu",
    "rdylgn",
    "piyg",
    "prgn",
    "brbg",
    "puor",
]
Compression = Literal[
    "fast",
    "small",
]
FileType = Literal[
    "png",
    "jpg",
    "jpeg",
    "bmp",
    "webp",
]
Format = Literal[
    "HW",
    "HWC",
    "CHW",
    "NHW",
    "NHWC",
    "NCHW",
]
Mode = Literal[
    "1",
    "L",
    "LA",
    "RGB",
    "RGBA",
    "I;16",
]
Profile = Literal[
    "auto",
    "wandb-0.10",
    "wandb-0.20",
    "wandb-0.29",
]
