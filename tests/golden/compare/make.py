"""Writes golden.json: how pictures differ, as NumPy and scikit-image see it.

    pip install scikit-image==0.26.0
    python make.py > golden.json

Pictures are made by a small generator, which the test repeats: value i of a picture with a seed is
    state = (state * 6364136223846793005 + 1442695040888963407) mod 2**64
    value = (state >> 33) / 2**31
b is a plus `noise` times (value of the second picture - 1/2).
"""

import json
import sys

import numpy as np
import scipy
import skimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def picture(seed, n):
    state, values = seed, np.empty(n)
    for i in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values[i] = (state >> 33) / 2**31
    return values


CASES = [
    # height, width, channels, dtype, scale, offset, noise
    (7, 7, 1, "float64", 1.0, 0.0, 0.1),
    (10, 300, 1, "float64", 1.0, 0.0, 0.1),
    (11, 11, 1, "float64", 1.0, 0.0, 0.1),
    (11, 12, 3, "float32", 2.0, -1.0, 0.5),
    (13, 17, 4, "uint8", 255.0, 0.0, 20.0),
    (28, 28, 1, "uint8", 255.0, 0.0, 3.0),
    (33, 64, 3, "uint8", 255.0, 0.0, 120.0),
    (64, 33, 1, "uint16", 65535.0, 0.0, 900.0),
    (45, 51, 3, "float16", 1.0, 0.0, 0.2),
    (100, 99, 1, "float64", 80.0, 3.0, 5.0),
    (16, 300, 3, "float32", 1.0, 0.0, 0.01),
    (300, 300, 1, "float64", 1.0, 0.0, 0.3),
    (40, 40, 1, "int32", 0.0, 7.0, 0.0),
    (40, 40, 3, "float64", 0.0, 0.25, 0.0),
    (32, 32, 1, "float64", 0.0, 0.5, 0.2),
    (20, 24, 1, "int16", 4000.0, -2000.0, 300.0),
]


def case(number, height, width, channels, dtype, scale, offset, noise):
    n = height * width * channels
    shape = (height, width, channels)
    a = offset + scale * picture(2 * number + 1, n)
    b = a + noise * (picture(2 * number + 2, n) - 0.5)
    if np.issubdtype(np.dtype(dtype), np.integer):
        info = np.iinfo(dtype)
        a, b = (np.clip(np.floor(it), info.min, info.max) for it in (a, b))
    if dtype == "float16":
        # The test rounds to float32 first, too.
        a, b = (it.astype("float32") for it in (a, b))
    a, b = (it.astype(dtype).reshape(shape) for it in (a, b))
    peak = float(max(scale, 1.0))
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)

    def figures(a, b):
        d = a - b
        at = np.unravel_index(np.argmax(np.abs(d)), d.shape)
        mse = float(np.mean(d * d))
        return {
            "mse": mse,
            "mae": float(np.mean(np.abs(d))),
            "max": float(np.max(np.abs(d))),
            "at": [int(at[1]), int(at[0])],
            "psnr": float(peak_signal_noise_ratio(a, b, data_range=peak)) if mse else None,
        }

    def ssim(a, b, axis):
        if min(height, width) < 11:
            return None
        return structural_similarity(
            a,
            b,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=peak,
            channel_axis=axis,
            full=True,
        )

    of_channels = []
    for c in range(channels):
        got = ssim(wide_a[..., c], wide_b[..., c], None)
        of_channel = figures(wide_a[..., c], wide_b[..., c])
        of_channels.append({**of_channel, "ssim": got and float(got[0])})
    got = ssim(wide_a, wide_b, 2)
    corners = None
    if got:
        full = got[1].mean(axis=2)
        corners = [float(full[y, x]) for y, x in [(0, 0), (0, -1), (-1, 0), (-1, -1), (height // 2, 3)]]
    low, high = float(wide_a.min()), float(wide_a.max())
    histogram = [np.histogram(wide_a[..., c], bins=37, range=(low, high))[0].tolist() for c in range(channels)]
    return {
        "size": [height, width, channels],
        "dtype": dtype,
        "scale": scale,
        "offset": offset,
        "noise": noise,
        "peak": peak,
        "whole": {**figures(wide_a, wide_b), "ssim": got and float(got[0])},
        "channels": of_channels,
        "ssim_corners": corners,
        "histogram": histogram,
    }


cases = [case(i, *values) for i, values in enumerate(CASES)]
versions = {
    "python": sys.version.split()[0],
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "scikit-image": skimage.__version__,
}
lines = ",\n".join(json.dumps(of_case) for of_case in cases)
print(f'{{"versions": {json.dumps(versions)}, "cases": [\n{lines}\n]}}')
