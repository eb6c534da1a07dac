"""Runs an unchanged training that logs pictures with wandb, with Safelight and without, and measures its loop.

    wandb_loop.py [--pairs N] [--steps N] [--validate-every N] [--torch] [--quick]

The training is `examples/validation/train.py`, in a process of its own each time. It logs no pictures, logs them
with wandb, and does so under `python -m safelight.wandb`, in turn, the order reversed in every second round. It makes
the pictures in all three. All are online runs, against a stand-in for W&B's server; a daemon develops. The loop has
neither the start of the run nor its end, which waits for uploads; `whole` has both. The ratios are those of one round
to the loop without pictures.

Then each row of each run is checked: it has all of its pictures, at the server, with the pixels of wandb alone.
"""

import argparse
import io
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request

from common import REPO, Daemon, fresh_folder, say
from PIL import Image

TRAINING = REPO / "examples/validation/train.py"
KINDS = ("no pictures", "wandb.Image", "safelight.wandb")


def arguments():
    parser = argparse.ArgumentParser(prog="./test.sh wandb loop")
    parser.add_argument("--pairs", type=int, default=8, help="rounds of the three kinds")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--validate-every", type=int, default=30)
    parser.add_argument("--width", type=int, default=384, help="size of the layers, and so the length of a step")
    parser.add_argument("--torch", action="store_true", help="with a model and tensors of PyTorch")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.steps, options.validate_every = 2, 40, 20
    return options


def train(options, folder, url, kind, name):
    """Returns the seconds of the loop, the CPU seconds of its thread, and the seconds of all."""
    command = [str(TRAINING), "--steps", str(options.steps), "--validate-every", str(options.validate_every)]
    command += ["--width", str(options.width), *(["--torch"] if options.torch else [])]
    command += ["--no-pictures"] if kind == "no pictures" else []
    if kind == "safelight.wandb":
        command = ["-m", "safelight.wandb", "--dir", str(folder / "runs/{id}"), *command]
    own = ("WANDB_", "SAFELIGHT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment.update(
        HOME=str(folder), PYTHONPATH=str(REPO / "python"), SAFELIGHT_SOCKET=str(folder / "control.sock"),
        OPENBLAS_NUM_THREADS="1", WANDB_API_KEY="k" * 40, WANDB_BASE_URL=url, WANDB_CONSOLE="off",
        WANDB_DIR=str(folder), WANDB_DISABLE_GIT="true", WANDB_ERROR_REPORTING="false", WANDB_RUN_ID=name,
        WANDB_SILENT="true",
        # On a busy machine the daemon, which yields, is late.
        SAFELIGHT_FINISH_S="900",
    )
    start = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    whole = time.perf_counter() - start
    found = re.search(r"loop_s (\S+) cpu_s (\S+)", ran.stdout)
    if ran.returncode != 0 or found is None or "safelight" in ran.stderr.lower():
        sys.exit(f"{kind}: the training failed\n{ran.stdout}{ran.stderr}")
    return float(found[1]), float(found[2]), whole


def pictures(server_folder, name, run):
    """The pixels of the pictures in each row of a run, by step. Raises `OSError` if the server lacks one."""
    found = {}
    for row in run["history"]:
        names = row.get("validation", {}).get("filenames", [])
        files = [(server_folder / "mine/vision" / name / path).read_bytes() for path in names]
        found[row["_step"]] = [Image.open(io.BytesIO(file)).tobytes() for file in files]
    return found


def check(options, server_folder, url, names):
    """Checks every row of every run. Returns the number of pictures that Safelight handed over."""
    with urllib.request.urlopen(f"{url}/recorded") as answer:
        recorded = json.load(answer)
    n = 0
    steps = set(range(options.validate_every - 1, options.steps, options.validate_every))
    for of_round in names:
        of_kind = {}
        for kind, name in of_round.items():
            run = recorded[f"mine/vision/{name}"]
            if [row["_step"] for row in run["history"]] != list(range(options.steps)):
                sys.exit(f"{kind}: got {len(run['history'])} rows, want {options.steps}")
            of_kind[kind] = pictures(server_folder, name, run)
        none, plain, ours = (of_kind[kind] for kind in KINDS)
        if plain != ours:
            sys.exit("the pictures of the two runs differ")
        if any(none.values()) or {step for step, found in ours.items() if len(found) == 8} != steps:
            sys.exit("a row does not have its 8 pictures")
        n += sum(map(len, ours.values()))
    return n


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def report(options, rounds):
    say(f"{options.pairs} rounds of {options.steps} steps, 8 pictures of 512x512 each {options.validate_every} steps;"
        f" load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Medians, with the least and the greatest")
    say(f"{'':16} {'loop, s':>24} {'ratio of the loop':>24} {'ratio of its CPU':>24} {'whole, s':>24}")
    for kind in KINDS:
        loop, cpu, whole = zip(*(times[kind] for times in rounds))
        ratios = [[times[kind][i] / times[KINDS[0]][i] for times in rounds] for i in (0, 1)]
        say(f"{kind:16} " + " ".join(f"{spread(values):>24}" for values in (loop, *ratios, whole)))
    added = {kind: statistics.median([times[kind][1] - times[KINDS[0]][1] for times in rounds]) for kind in KINDS[1:]}
    n = options.steps // options.validate_every
    each = {kind: 1000 * seconds / n for kind, seconds in added.items()}
    say("CPU of the training thread for each validation: " + ", ".join(f"{k} {ms:.0f} ms" for k, ms in each.items()))


def measure(options, folder, url):
    """Trains in turn. Returns the names of the runs, and the times of each round by kind."""
    rounds, names = [], []
    for n in range(options.pairs):
        names.append({kind: f"{kind.replace(' ', '-').replace('.', '-')}-{n}" for kind in KINDS})
        order = KINDS if n % 2 == 0 else KINDS[::-1]
        rounds.append({kind: train(options, folder, url, kind, names[-1][kind]) for kind in order})
    return names, rounds


def main():
    options = arguments()
    folder = fresh_folder("wandb-loop")
    server_folder = folder / "server"
    command = [sys.executable, str(REPO / "tests/wandb_server.py"), str(server_folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        with Daemon(folder) as daemon:
            names, rounds = measure(options, folder, url)
            report(options, rounds)
            n = check(options, server_folder, url, names)
            say(f"{n} pictures are in their rows, with the pixels of wandb alone")
            daemon.wait_for_items(n)
            say("all of them are in the store, too")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
