"""Measures how long a call of `log` blocks the training.

    ./test.sh peers blocked                              all pictures, on tmpfs and on disk; some minutes
    ./test.sh peers blocked --calls 40                   a quick look
    ./test.sh peers blocked --write docs/performance.md  all of it, written into that page

Each row is one kind of picture, each column one kind of call, with the least, p50 and p99 of its wall time. The last
column is the p50 of `log` as a fraction of that of `wandb.Image`. The calls of a row take turns. The training sleeps
for 4 ms before each call, as if a GPU were at work.

`wandb.Image + log` is wandb itself, with fewer calls. `one plain write` writes the same bytes into a new file.
`log` is a run as it comes. `copied + thread` is `Run(…, background=True)`, and `given + thread` has
`Image(…, donate=True)` too. The time of a call is that of the thread that calls. What the other thread writes after
it is waited for, but not counted, before the next call.
"""

import argparse
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peers import CAPTION, REPO, digits, machine, put_into, smooth_noise, start_wandb, table, to_uint8

sys.path.insert(0, str(REPO / "python"))
import safelight

BEGIN, END = "<!-- blocked: written by ./test.sh peers blocked -->", "<!-- end of blocked -->"
PAUSE_S = 0.004
WAYS = ("wandb.Image + log", "one plain write", "log", "copied + thread", "given + thread")

# Goals in ms for p50, by way of logging and picture. `None` is any picture.
GOALS = {
    ("given + thread", None): 0.1,
    ("copied + thread", "u8 512×512×3"): 0.2,
    ("copied + thread", "f32 512×512×3"): 0.45,
    ("log", "64 × u8 28×28 in one log"): 0.4,
    ("copied + thread", "64 × u8 28×28 in one log"): 0.4,
}


def pictures():
    """Returns what is logged in one call, by name: a picture, or a list of them."""
    random = np.random.default_rng(8)
    # Like a generator's output. Photographs would need scikit-image.
    smooth = smooth_noise(random, 512, 3, (4, 8, 16, 32, 64, 128))
    photo = np.clip(smooth / np.ptp(smooth) + 0.5 + random.normal(0, 1.5 / 255, smooth.shape), 0, 1).astype(
        "f4"
    )
    cases = {
        "u8 512×512×3": to_uint8(photo),
        "f32 512×512×3": photo,
        "f32 CHW→HWC view": np.ascontiguousarray(photo.transpose(2, 0, 1)).transpose(1, 2, 0),
        "f32 1024×1024×3": np.tile(photo, (2, 2, 1)),
        "64 × u8 28×28 in one log": [to_uint8(random.random((28, 28), "f4")) for _ in range(64)],
    }
    if importlib.util.find_spec("torch"):
        import torch

        cases["torch f32 3×512×512"] = torch.from_numpy(photo).permute(2, 0, 1).contiguous()
    return cases


def percentiles(times_s):
    times_ms = sorted(time_s * 1e3 for time_s in times_s)
    last = len(times_ms) - 1
    return times_ms[0], times_ms[len(times_ms) // 2], times_ms[min(len(times_ms) * 99 // 100, last)]


class Place:
    """The runs of one folder, and a call for each way to log."""

    def __init__(self, folder):
        self.folder = folder
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        self.wandb, self.wandb_run = start_wandb(folder)
        self.runs = {
            name: safelight.Run(folder / name, strict=True, background=name != "log")
            for name in ("log", "copied + thread", "given + thread")
        }

    def calls(self, what):
        """Returns a function for each way to log `what`, and one that clears up after it."""
        is_list = isinstance(what, list)
        content = b"".join(np.asarray(each).tobytes() for each in (what if is_list else [what]))
        plain = self.folder / "plain"

        def write():
            with open(plain, "xb", buffering=0) as file:
                file.write(content)

        def log_to_wandb():
            wandb = self.wandb
            images = [wandb.Image(each) for each in what] if is_list else wandb.Image(what, caption=CAPTION)
            self.wandb_run.log({"val/pred": images})

        def log(name, donate=False):
            run, Image = self.runs[name], safelight.Image
            if is_list:
                return lambda: run.log({"val/pred": [Image(each, donate=donate) for each in what]})
            return lambda: run.log({"val/pred": Image(what, caption=CAPTION, donate=donate)})

        # Copies of large arrays go where the last run says. Each way has its own.
        ways = dict(
            zip(WAYS, (log_to_wandb, write, log("log"), log("copied + thread"), log("given + thread", True)))
        )
        return ways, lambda: plain.unlink(missing_ok=True)

    def settle(self, is_full):
        """Waits for the threads and, now and then, removes the dumps, as a daemon with retention would."""
        for run in self.runs.values():
            run.flush()
            if is_full:
                for dump in (Path(run.dir) / "tensors").iterdir():
                    dump.unlink()

    def finish(self):
        for run in self.runs.values():
            run.finish()
        self.wandb_run.finish()


def measure(folder, n_calls):
    """Returns least, p50 and p99 in ms, by picture and way."""
    place, figures = Place(folder), {}
    for name, what in pictures().items():
        ways, clear = place.calls(what)
        if hasattr(what, "is_contiguous") or not (isinstance(what, list) or what.flags.c_contiguous):
            # An array in another order is copied in any case.
            ways = {
                way: call for way, call in ways.items() if way != "given + thread" or hasattr(what, "numel")
            }
        times = {way: [] for way in ways}
        for n in range(n_calls):
            # Rotate the order: a call leaves the caches cold for the next one.
            names = list(ways)
            for way in names[n % len(names) :] + names[: n % len(names)]:
                # A slow call for which few figures do.
                if way == WAYS[0] and n >= max(n_calls // 10, 8):
                    continue
                if way in place.runs:
                    safelight._run.set_folder(lambda run=place.runs[way]: safelight._run._folder_of(run))
                time.sleep(PAUSE_S)
                start = time.perf_counter()
                ways[way]()
                times[way].append(time.perf_counter() - start)
                clear()
                place.settle(is_full=False)
            if n % 16 == 15:
                place.settle(is_full=True)
        figures[name] = {way: percentiles(all_) for way, all_ in times.items()}
        print(f"{folder.name}: {name} is done", file=sys.stderr)
    place.finish()
    return figures


def report(where, figures):
    """The table of one place. Each figure is beside its goal."""
    rows = []
    for name, ways in figures.items():
        row = [name]
        for way in WAYS:
            if way not in ways:
                row.append("–")
                continue
            least, p50, p99 = ways[way]
            goal = GOALS.get((way, name), None if name.startswith("64") else GOALS.get((way, None)))
            text = f"{digits(least, 2)} / {digits(p50, 2)} / {digits(p99, 2)}"
            row.append(text if goal is None else f"{text} ({'≤' if p50 <= goal else '**>**'} {goal})")
        row.append(f"1/{digits(ways[WAYS[0]][1] / ways['log'][1], 2)}")
        rows.append(row)
    head = [f"{where}: least / p50 / p99 in ms (goal for p50)", *WAYS, "log × wandb's p50"]
    return table(head, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=400, help="calls of each kind")
    parser.add_argument("--write", type=Path, help="a page to write the tables into")
    options = parser.parse_args()
    if options.write and not (BEGIN in (page := options.write.read_text()) and END in page):
        parser.error(f"{options.write}: no {BEGIN} and {END}")
    # On SIGTERM raise SystemExit, so that the files on tmpfs are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scratch = REPO / "target/peers"
    scratch.mkdir(parents=True, exist_ok=True)
    places = {"disk": Path(tempfile.mkdtemp(prefix="blocked-", dir=scratch))}
    if os.access("/dev/shm", os.W_OK):
        places = {"tmpfs": Path(tempfile.mkdtemp(prefix="safelight-blocked-", dir="/dev/shm")), **places}
    text = machine(["wandb.Image"])
    try:
        for where, folder in places.items():
            text += "\n" + report(where, measure(folder, options.calls))
    finally:
        for folder in places.values():
            shutil.rmtree(folder, ignore_errors=True)
    print(text)
    if options.write:
        put_into(options.write, text, BEGIN, END)


if __name__ == "__main__":
    main()
