"""Measures how long a call of TensorBoard's writers holds up a training, with and without `Pictures`.

    python python/tests/adapters/blocked.py [FOLDER]

Both are called in turn with the same picture. FOLDER is where they write; default: /dev/shm. Times are
medians: of the clock, and of the CPU time of the calling thread, which other programs change less.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any, Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy
import tensorboardX
import torch
from torch.utils import tensorboard

from safelight.tensorboard import Pictures

CALLS = 60
RANDOM = numpy.random.default_rng(0)


def photograph(*shape: int) -> Any:
    """Smooth shapes with a little noise, as bytes: PNG takes as long for them as for a photograph."""
    rows, columns = numpy.mgrid[: shape[-2], : shape[-1]]
    smooth = 127 + 80 * numpy.sin(rows / 17) * numpy.cos(columns / 29)
    return numpy.clip(smooth + RANDOM.normal(0, 4, shape), 0, 255).astype("u1")


def milliseconds(call: Callable[[], None]) -> tuple[float, float]:
    """The time of a call, and its CPU time."""
    start, cpu_start = time.perf_counter(), time.thread_time()
    call()
    return (time.perf_counter() - start) * 1000, (time.thread_time() - cpu_start) * 1000


def measure(folder: str) -> None:
    pictures = {
        "`add_image`, 3×512×512 bytes": ("add_image", torch.from_numpy(photograph(3, 512, 512))),
        "`add_image`, 3×512×512 floats": ("add_image", torch.from_numpy(photograph(3, 512, 512)) / 255),
        "`add_images`, 64×1×28×28 floats": ("add_images", torch.from_numpy(photograph(64, 1, 28, 28)) / 255),
    }
    print("| writer | call | alone | CPU | with `Pictures` | CPU | ratio of CPU |\n" + "| --- " * 7 + "|")
    for name, plain in (("torch", tensorboard.SummaryWriter), ("tensorboardX", tensorboardX.SummaryWriter)):
        ours = type("Writer", (Pictures, plain), {})
        for call, (method, picture) in pictures.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                writers = [plain(f"{place}/plain"), ours(f"{place}/run")]
                took: list[list[tuple[float, float]]] = [[], []]
                for step in range(CALLS):
                    for writer, times in zip(writers, took):
                        times.append(milliseconds(lambda: getattr(writer, method)("k", picture, step)))
                for writer in writers:
                    writer.close()
            alone, with_ours = ([statistics.median(each) for each in zip(*times[5:])] for times in took)
            cells = " | ".join(f"{each:.2f} ms" for each in (*alone, *with_ours))
            print(f"| {name} | {call} | {cells} | {alone[1] / with_ours[1]:.0f} |")


if __name__ == "__main__":
    measure(sys.argv[1] if len(sys.argv) > 1 else "/dev/shm")
