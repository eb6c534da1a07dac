"""Measures how long a training is blocked by pictures that it logs with wandb, with `safelight.wandb` and without.

    wandb_blocked.py [--calls N] [--program PATH]

Both are measured in alternation, in one process and one offline run each, with a daemon that develops. Needs NumPy and
wandb. A call is `run.log` of new images, their constructors included. The CPU time is that of the calling thread: a busy
machine changes it less than the wall time.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--program", default=os.environ.get("SAFELIGHT_PROGRAM", str(ROOT / "target/release/safelight")))
    return parser.parse_args()


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


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def main():
    options = arguments()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="wandb-blocked-", dir="/dev/shm"))
    os.chdir(folder)
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
    config = '[store]\npath = "store"\n[control]\nsocket = "control.sock"\n[[watch]]\npath = "."\nruns = "run"\n'
    (folder / "safelight.toml").write_text(config)
    command = [options.program, "daemon", "--config", "safelight.toml"]
    with open("daemon.log", "w", encoding="utf-8") as log:
        daemon = subprocess.Popen(command, stderr=log)
    try:
        measure(options, folder)
    finally:
        daemon.terminate()
        daemon.wait()


def measure(options, folder):
    import wandb

    import safelight.wandb

    settings = wandb.Settings(console="off", disable_git=True, x_disable_stats=True, reinit="create_new")
    runs = {kind: wandb.init(project="blocked", id=kind, dir=str(folder), settings=settings) for kind in ("plain", "ours")}
    safelight.wandb.install(folder / "run", socket=folder / "control.sock")
    patches = safelight.wandb._installed
    load = os.getloadavg()[0]
    print(f"wandb {wandb.__version__}, {options.calls} calls of each kind, load {load:.0f}; ms: wall p50/p99, CPU p50")
    print(f"{'':16}{'wandb':>22}{'safelight.wandb':>22}{'ratio of wall, CPU':>20}")
    for name, make in cases(wandb).items():
        times = {kind: [] for kind in runs}
        for n in range(options.calls + 3):
            for kind, run in runs.items():
                if kind == "plain":
                    patches.undo()
                start = time.perf_counter(), time.thread_time()
                run.log({"loss": 0.5, name: make(n)})
                took = time.perf_counter() - start[0], time.thread_time() - start[1]
                if kind == "plain":
                    patches.apply()
                # The first calls begin the run.
                if n >= 3:
                    times[kind].append([1000 * t for t in took])
        wall, cpu = ({kind: [t[i] for t in found] for kind, found in times.items()} for i in (0, 1))
        middle, used = ({kind: statistics.median(t) for kind, t in part.items()} for part in (wall, cpu))
        cells = [f"{middle[kind]:.2f}/{percentile(wall[kind], 0.99):.1f}, {used[kind]:.2f}" for kind in runs]
        ratios = f"{middle['plain'] / middle['ours']:.1f}×, {used['plain'] / used['ours']:.1f}×"
        print(f"{name:16}{cells[0]:>22}{cells[1]:>22}{ratios:>20}", flush=True)
    start = time.perf_counter()
    for run in runs.values():
        run.finish()
    print(f"finish: {time.perf_counter() - start:.1f} s")
    promised = list(folder.glob("wandb/*-ours/files/media/images/**/*.png"))
    print(f"{len(promised)} pictures are in the run")


if __name__ == "__main__":
    main()
