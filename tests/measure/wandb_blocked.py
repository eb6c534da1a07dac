"""Measures how long a training is blocked by pictures that it logs with wandb, with `safelight.wandb` and without.

    wandb_blocked.py [--calls N]

Both are measured in alternation, in one process and one offline run each, with a daemon that develops. Needs NumPy and
wandb. A call is `run.log` of new images, their constructors included. The CPU time is that of the calling thread: a
busy machine changes it less than the wall time.
"""

import argparse
import os
import shutil
import statistics
import sys
import time

import numpy as np
from common import REPO, Daemon, fresh_folder, percentile, say

sys.path.insert(0, str(REPO / "python"))

# The first calls begin the run, and are not measured.
FIRST = 3

# Pictures of a call by its name; others have one.
PICTURES = {"a scalar alone": 0, "64 × 28×28 u8": 64}


def cases(wandb):
    """Functions that make what a call logs, by name. Each array is new, as in a training."""
    # Shades and the noise of a camera.
    y, x = np.mgrid[0:512, 0:512][:, :, :, None] / 80
    shades = 128 + 60 * np.sin(y + [0, 1, 2]) + 40 * np.cos(x * [1, 0.7, 1.3])
    photo = (shades + np.random.default_rng(1).normal(0, 3, (512, 512, 3))).clip(0, 255).astype(np.uint8)
    ids = (photo[:, :, 0] % 5).astype(np.uint8)
    labels = {n: str(n) for n in range(5)}
    digits = np.random.default_rng(2).integers(0, 256, (64, 28, 28)).astype(np.uint8)
    return {
        "a scalar alone": lambda n: 0,
        "512×512×3 u8": lambda n: wandb.Image(photo + np.uint8(n % 3)),
        "512×512×3 f32": lambda n: wandb.Image(photo.astype(np.float32) + n % 3),
        "with a mask": lambda n: wandb.Image(photo, masks={"m": {"mask_data": ids.copy(), "class_labels": labels}}),
        "64 × 28×28 u8": lambda n: [wandb.Image(digit) for digit in digits],
    }


def main():
    parser = argparse.ArgumentParser(prog="./test.sh wandb blocked")
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    folder = fresh_folder("wandb-blocked", in_memory=True)
    os.chdir(folder)
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
    try:
        with Daemon(folder):
            measure(options, folder)
    finally:
        os.chdir(REPO)
        shutil.rmtree(folder)


def measure(options, folder):
    import wandb

    import safelight.wandb

    settings = wandb.Settings(console="off", disable_git=True, x_disable_stats=True, reinit="create_new")
    kinds = ("plain", "ours")
    runs = {kind: wandb.init(project="blocked", id=kind, dir=str(folder), settings=settings) for kind in kinds}
    safelight.wandb.install(folder / "runs/run", socket=folder / "control.sock")
    patches = safelight.wandb._installed
    load = os.getloadavg()[0]
    say(f"wandb {wandb.__version__}, {options.calls} calls of each kind, load {load:.0f}; ms: wall p50/p99, CPU p50")
    say(f"{'':16}{'wandb':>22}{'safelight.wandb':>22}{'ratio of wall, CPU':>20}")
    for name, make in cases(wandb).items():
        times = {kind: [] for kind in runs}
        for n in range(options.calls + FIRST):
            for kind, run in runs.items():
                if kind == "plain":
                    patches.undo()
                start = time.perf_counter(), time.thread_time()
                run.log({"loss": 0.5, name: make(n)})
                took = time.perf_counter() - start[0], time.thread_time() - start[1]
                if kind == "plain":
                    patches.apply()
                if n >= FIRST:
                    times[kind].append([1000 * t for t in took])
        wall, cpu = ({kind: [t[i] for t in found] for kind, found in times.items()} for i in (0, 1))
        middle, used = ({kind: statistics.median(t) for kind, t in part.items()} for part in (wall, cpu))
        cells = [f"{middle[kind]:.2f}/{percentile(wall[kind], 0.99):.1f}, {used[kind]:.2f}" for kind in runs]
        ratios = f"{middle['plain'] / middle['ours']:.1f}×, {used['plain'] / used['ours']:.1f}×"
        say(f"{name:16}{cells[0]:>22}{cells[1]:>22}{ratios:>20}")
    start = time.perf_counter()
    for run in runs.values():
        run.finish()
    say(f"finish: {time.perf_counter() - start:.1f} s")
    # One of the calls has a mask.
    want = (options.calls + FIRST) * (1 + sum(PICTURES.get(name, 1) for name in cases(wandb)))
    for kind in kinds:
        files = list(folder.glob(f"wandb/*-{kind}/files/media/images/**/*.png"))
        if len(files) != want:
            sys.exit(f"{kind}: {len(files)} pictures and masks are in the run, want {want}")
    say(f"{want} pictures and masks are in each run")


if __name__ == "__main__":
    main()
