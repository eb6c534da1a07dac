"""Compares the cost of a picture in Safelight and in its peers, for the same pictures at the same time.

    ./test.sh peers                              all tables, about fifteen minutes
    ./test.sh peers --quick                      the most informative classes and peers, under a minute
    ./test.sh peers photo512 gan512              these tables only
    ./test.sh peers --write docs/performance.md  all tables, written into that page
    ./test.sh peers --old PROGRAM                with another build of Safelight beside this one

It prints CPU time: user and system, of all threads and of the processes that a peer starts. Candidates run
in turn, round after round. A ratio is the median of the rounds' ratios, because absolute figures change
with the load of the machine. It fails only if an installed peer can't be run, or a picture is lost.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

REPO = Path(__file__).resolve().parents[1]
PROGRAM = os.environ.get("SAFELIGHT_PROGRAM", str(REPO / "target/release/safelight"))
BEGIN, END = "<!-- figures: written by ./test.sh peers -->", "<!-- end of figures -->"
CAPTION = "epoch 3"

# For each class of pictures: pictures that a peer makes in a round, dumps that Safelight reads in a round,
# and a description.
CLASSES = {
    "photo512": (4, 60, "four photographs at native pixels, 262,000 on average, RGB"),
    "photo1024": (2, 16, "two mosaics of eight photographs at native pixels, 1024×1024, RGB"),
    "photo1024L": (2, 40, "the mosaics of photo1024 in gray"),
    "photo512A": (4, 40, "the photographs of photo512 with a soft round alpha"),
    "photo512L": (4, 100, "the photographs of photo512 in gray"),
    "gan512": (4, 60, "octaves of smooth noise + N(0, 1.5/255), like a generator's output, 512×512, RGB"),
    "seg512L": (8, 200, "label maps of 19 classes, 512×512, int64"),
    "seg512rgb": (8, 60, "such label maps through a palette of 19 colours, RGB"),
    "noise512": (4, 60, "uniform noise, 512×512, RGB"),
    "small64": (64, 1920, "64×64 crops of the photographs, RGB"),
    "digits28": (200, 6000, "scikit-learn's 8×8 digits, upscaled to 28×28 (bicubic), gray"),
}
TABLES = [*CLASSES, "whole", "threads"]
QUICK = ["photo512", "gan512", "seg512L", "digits28"]
# Classes whose whole processes are compared.
WHOLE = ["photo512", "digits28"]
# Classes that are made with one thread that renders, and with two.
THREADS = ["photo512", "seg512L", "small64", "digits28"]
THREADS_GOAL = 1.8

PLAIN = "plain read and write"

# Class, candidate, and limits. For a candidate's name: the greatest ratio to its CPU time. `size`: the greatest ratio
# to Pillow's size. `a_second`: the least number a second and core, where the plain loop makes half as many again.
GOALS = [
    ("photo512", "safelight", {PLAIN: 2.5, "fpng-py": 1, "size": 1.00}),
    ("photo1024", "safelight", {PLAIN: 2.5, "fpng-py": 1, "size": 1.00}),
    ("photo512A", "safelight", {PLAIN: 2.5, "fpng-py": 1, "size": 1.00}),
    ("photo512L", "safelight", {PLAIN: 2.5, "size": 1.00}),
    ("photo1024L", "safelight", {PLAIN: 2.5, "size": 1.00}),
    ("gan512", "safelight", {PLAIN: 2.0, "size": 1.00}),
    ("noise512", "safelight", {PLAIN: 2.0, "size": 1.00}),
    ("seg512L", "safelight", {PLAIN: 2.2, "size": 0.90}),
    ("seg512rgb", "safelight", {PLAIN: 2.2, "size": 0.90}),
    ("small64", "safelight", {PLAIN: 2.0, "size": 1.00}),
    ("digits28", "safelight", {PLAIN: 1.5, "a_second": 20_000}),
    ("photo512", "float16", {"safelight": 1.1}),
    ("photo512", "bfloat16", {"safelight": 1.1}),
    ("photo512", "channels first", {"safelight": 1.15}),
    ("photo512", "Fortran order", {"safelight": 1.15}),
] + [(name, "safelight, small", {"Pillow": 1 / 3, "size": 1.00}) for name in CLASSES]

# Variants of Safelight: lines of its section [image].
SETTINGS = {
    "safelight": "",
    "safelight, small": 'compression = "small"\n',
    "safelight, palette": "palette = true\n",
}
OLD_BUILD = "safelight, the old build"
# Classes whose pictures are also given in other element types and orders.
IN_OTHER_FORMS = ["photo512"]


# ---------------------------------------------------------------------------------------------
# The pictures.


def photographs():
    """Eight photographs from the packages scikit-image and scikit-learn: uint8, H×W×3."""
    folders = {name: Path(importlib.util.find_spec(name).origin).parent for name in ("skimage", "sklearn")}
    paths = [folders["skimage"] / "data/astronaut.png"]
    paths += [folders["sklearn"] / f"datasets/images/{name}.jpg" for name in ("china", "flower")]
    paths += [
        folders["skimage"] / f"data/{name}"
        for name in ("coffee.png", "rocket.jpg", "motorcycle_left.png", "ihc.png", "hubble_deep_field.jpg")
    ]
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def smooth_noise(random, side, channels, octaves):
    """Octaves of noise, each half as strong and twice as fine as the one before: side×side×channels."""
    planes = []
    for _ in range(channels):
        plane = np.zeros((side, side), "f4")
        for octave in octaves:
            grid = Image.fromarray(random.standard_normal((octave, octave)).astype("f4"))
            plane += np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC)) / octave
        planes.append(plane)
    return np.stack(planes, axis=-1)


def floats(pixels):
    return pixels.astype("f4") / np.float32(255)


def gray(pixels):
    return np.asarray(Image.fromarray(pixels).convert("L"))


def labels(random):
    return smooth_noise(random, 512, 19, (4, 8, 16, 32, 64)).argmax(axis=-1)


def make_class(name):
    """The distinct pictures of a class: float32 in [0, 1] unless its description names another type."""
    random = np.random.default_rng(sum(name.encode()))
    photos = photographs()
    if name == "photo512":
        return [floats(photo) for photo in photos[:4]]
    if name in ("photo1024", "photo1024L"):
        mosaics = []
        for corner in (0, 1):
            tiles = []
            for photo in photos[corner * 4 :] + photos[: corner * 4]:
                top, left = ((photo.shape[0] - 256) * corner, (photo.shape[1] - 512) * corner)
                tiles.append(photo[top : top + 256, left : left + 512])
            halves = [np.concatenate(tiles[i::2]) for i in (0, 1)]
            mosaics.append(np.concatenate(halves, axis=1))
        return [floats(gray(mosaic) if name.endswith("L") else mosaic) for mosaic in mosaics]
    if name == "photo512A":
        pictures = []
        for photo in photos[:4]:
            y, x = (np.linspace(-1, 1, n) for n in photo.shape[:2])
            alpha = np.exp(-1.5 * (y[:, None] ** 2 + x[None, :] ** 2))[..., None]
            pictures.append(floats(np.concatenate([photo, np.uint8(alpha * 255)], axis=-1)))
        return pictures
    if name == "photo512L":
        return [floats(gray(photo)) for photo in photos[:4]]
    if name == "gan512":
        pictures = []
        for _ in range(4):
            picture = smooth_noise(random, 512, 3, (4, 8, 16, 32, 64, 128, 256))
            picture = (picture - picture.min()) / np.ptp(picture)
            noise = random.normal(0, 1.5 / 255, picture.shape)
            pictures.append(np.clip(picture + noise, 0, 1).astype("f4"))
        return pictures
    if name == "seg512L":
        return [labels(random) for _ in range(4)]
    if name == "seg512rgb":
        palette = random.integers(0, 256, (19, 3), "u1")
        return [floats(palette[labels(random)]) for _ in range(4)]
    if name == "noise512":
        return [random.random((512, 512, 3), "f4") for _ in range(4)]
    if name == "small64":
        pictures = []
        for n in range(64):
            photo = photos[n % 8]
            top, left = (random.integers(0, n - 64) for n in photo.shape[:2])
            pictures.append(floats(photo[top : top + 64, left : left + 64]))
        return pictures
    if name == "digits28":
        from sklearn.datasets import load_digits

        digits = [Image.fromarray(np.uint8(digit * (255 / 16))) for digit in load_digits().images[:200]]
        return [floats(np.asarray(digit.resize((28, 28), Image.Resampling.BICUBIC))) for digit in digits]
    raise ValueError(f"no class of pictures: {name}")


def to_uint8(picture):
    """The pixels by the rule of wandb 0.28: [0, 1] becomes 0 to 255, truncated. Labels stay."""
    return (picture * 255).astype("u1") if picture.dtype.kind == "f" else picture.astype("u1")


def pixels_of(source):
    with Image.open(source) as image:
        if image.mode == "P":
            image = image.convert("RGB")
        return np.asarray(image)


# ---------------------------------------------------------------------------------------------
# The peers. Each takes the float pictures, writes files below a folder, and returns their paths, or the total
# number of bytes if it does not write a file for each picture.


def peer_pillow(folder, **options):
    def make(pictures):
        paths = []
        for n, picture in enumerate(pictures):
            paths.append(folder / f"pillow-{n}.png")
            Image.fromarray(to_uint8(picture)).save(paths[-1], **options)
        return paths

    return make


def peer_wandb_image(folder):
    import wandb

    return lambda pictures: [wandb.Image(picture)._path for picture in pictures]


def start_wandb(folder):
    import wandb

    settings = wandb.Settings(x_disable_stats=True, console="off", silent=True)
    return wandb, wandb.init(project="peers", mode="offline", dir=str(folder), settings=settings)


def peer_wandb_log(folder):
    wandb, run = start_wandb(folder)

    def make(pictures):
        images = []
        for picture in pictures:
            images.append(wandb.Image(picture))
            run.log({"k": images[-1]})
        return [image._path for image in images]

    return make


def peer_wandb_031(folder):
    """`wandb.Image` as its users call it since 0.29: they scale the values themselves."""
    import wandb

    return lambda pictures: [
        wandb.Image(picture * 255 if picture.dtype.kind == "f" else picture)._path for picture in pictures
    ]


def peer_tensorboardx(folder):
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboardx"))
    events = next((folder / "tensorboardx").glob("*tfevents*"))

    def flush():
        # tensorboardX writes events in a thread, from a queue. Wait until the queue is empty.
        size = -1
        while events.stat().st_size > size or not writer.file_writer.event_writer._event_queue.empty():
            size = events.stat().st_size
            time.sleep(0.05)
            writer.flush()

    def make(pictures):
        flush()
        before = events.stat().st_size
        for picture in pictures:
            # tensorboardX scales every type except uint8.
            picture = picture if picture.dtype.kind == "f" else picture.astype("u1")
            writer.add_image("k", picture, dataformats="HW" if picture.ndim == 2 else "HWC")
        flush()
        return events.stat().st_size - before

    return make


def peer_torchvision(folder):
    import torch
    from torchvision.utils import save_image

    def make(pictures):
        paths = []
        for n, picture in enumerate(pictures):
            tensor = torch.from_numpy(floats(picture) if picture.dtype.kind != "f" else picture)
            tensor = tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
            paths.append(folder / f"torchvision-{n}.png")
            save_image(tensor, paths[-1])
        return paths

    return make


def peer_imageio(folder):
    from imageio.v3 import imwrite

    def make(pictures):
        paths = []
        for n, picture in enumerate(pictures):
            paths.append(folder / f"imageio-{n}.png")
            imwrite(paths[-1], to_uint8(picture))
        return paths

    return make


def peer_opencv(folder):
    import cv2

    swap = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}

    def make(pictures):
        paths = []
        for n, picture in enumerate(pictures):
            paths.append(folder / f"opencv-{n}.png")
            pixels = to_uint8(picture)
            cv2.imwrite(
                str(paths[-1]), cv2.cvtColor(pixels, swap[pixels.shape[2]]) if pixels.ndim == 3 else pixels
            )
        return paths

    return make


def peer_fpng(folder):
    import fpng_py

    def make(pictures):
        if pictures[0].ndim == 2:
            return None
        paths = []
        for n, picture in enumerate(pictures):
            paths.append(folder / f"fpng-{n}.png")
            height, width, channels = picture.shape
            fpng_py.fpng_encode_image_to_file(
                str(paths[-1]), to_uint8(picture).tobytes(), width, height, channels, 0
            )
        return paths

    return make


def peer_plain(folder):
    """The least cost of any program that reads a dump and writes a file. Reads a dump in pieces of 256 KiB,
    writes the bytes of Pillow's PNG to a temporary file, and renames it."""
    piece, known = bytearray(256 << 10), {}

    def make(pictures):
        paths = []
        for n, picture in enumerate(pictures):
            # Identifies the picture by its shape and some pixels. The warm-up round fills `known`.
            some = picture.shape, picture.ravel()[:: picture.size // 64].tobytes()
            if some not in known:
                dump, png = folder / f"{len(known)}.npy", folder / f"{len(known)}.png"
                np.save(dump, picture)
                Image.fromarray(to_uint8(picture)).save(png)
                known[some] = dump, png.read_bytes()
            dump, png = known[some]
            paths.append(folder / f"plain-{n}.png")
            with open(dump, "rb", buffering=0) as file:
                while file.readinto(piece):
                    pass
            beside = folder / "plain.tmp"
            with open(beside, "wb", buffering=0) as file:
                file.write(png)
            os.rename(beside, paths[-1])
        return paths

    return make


def peer_safelight_log(folder):
    """Safelight's cost in the training: writing a dump and its line."""
    sys.path.insert(0, str(REPO / "python"))
    import safelight

    run = safelight.Run(folder / "safelight", strict=True)

    def make(pictures):
        for picture in pictures:
            run.log({"k": safelight.Image(picture, caption=CAPTION)})
        return 0

    return make


# Name, package (whose version is printed), and the function that starts the peer.
PEERS = {
    "wandb.Image": ("wandb", peer_wandb_image),
    "wandb.Image + log": ("wandb", peer_wandb_log),
    "Pillow": ("pillow", peer_pillow),
    "Pillow, level 1": ("pillow", lambda folder: peer_pillow(folder, compress_level=1)),
    "tensorboardX": ("tensorboardX", peer_tensorboardx),
    "torchvision": ("torchvision", peer_torchvision),
    "imageio": ("imageio", peer_imageio),
    "OpenCV": ("opencv-python-headless", peer_opencv),
    "fpng-py": ("fpng-py", peer_fpng),
    "plain read and write": (None, peer_plain),
    "safelight.log": (None, peer_safelight_log),
}
OTHER_WANDB = "wandb.Image 0.31"
QUICK_PEERS = ["wandb.Image", "wandb.Image + log", "Pillow", "OpenCV", "plain read and write", "safelight.log"]


def descendants():
    """The pids of all descendants of this process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            pass
    found = {os.getpid()}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found - {os.getpid()}
        found |= more


def cpu_of(pids):
    """Seconds of CPU of all threads of other processes, from the kernel's counters in nanoseconds."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(thread.read_text().split()[0])
            except OSError:
                pass
    return total * 1e-9


def settled_cpu_of(pids):
    """The same, after the processes have become idle."""
    last = -1.0
    while pids and (now := cpu_of(pids)) > last + 5e-4:
        last = now
        time.sleep(0.05)
    return max(last, 0.0)


def serve_peer(options):
    """Runs a peer in this process. Makes pictures for each request on standard input."""
    # Keep the output of a peer apart from the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    folder = Path(options.folder)
    name = "wandb.Image + log" if options.peer == OTHER_WANDB + " + log" else options.peer
    make = peer_wandb_031(folder) if name == OTHER_WANDB else PEERS[name][1](folder)
    helpers = descendants()
    answers.write("ready\n")
    for line in sys.stdin:
        task = json.loads(line)
        pictures = [np.load(path) for path in task["paths"]]
        before, before_helpers = time.process_time(), settled_cpu_of(helpers)
        system = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        made = make(pictures)
        own = time.process_time() - before
        system = resource.getrusage(resource.RUSAGE_SELF).ru_stime - system
        helped = settled_cpu_of(helpers) - before_helpers
        answer = {"cpu_s": own + helped, "system_s": system}
        if isinstance(made, list):
            answer["bytes"] = sum(os.path.getsize(path) for path in made)
            if task["is_checked"]:
                answer["differing"] = sum(
                    not np.array_equal(pixels_of(path), to_uint8(picture))
                    for path, picture in zip(made, pictures)
                )
            for path in made:
                os.unlink(path)
        else:
            answer["bytes"] = made
        for dump in folder.glob("safelight/tensors/*"):
            dump.unlink()
        answers.write(json.dumps(answer) + "\n")


class Peer:
    """A process that runs a peer, with requests and answers over pipes."""

    def __init__(self, name, python, folder):
        self.folder = folder / f"peer-{len(list(folder.iterdir()))}"
        self.folder.mkdir()
        command = [python, __file__, "--peer", name, "--folder", str(self.folder)]
        environment = {
            **os.environ,
            "TMPDIR": str(self.folder),
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
        }
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(folder / "peers.log", "ab"),
            text=True,
            env=environment,
        )
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"{name}: {(folder / 'peers.log').read_text()}")

    def make(self, paths, is_checked):
        task = {"paths": [str(path) for path in paths], "is_checked": is_checked}
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"a peer ended: {(self.folder.parent / 'peers.log').read_text()}")
        return json.loads(answer)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


# ---------------------------------------------------------------------------------------------
# Safelight.


def cpu_of_process(command, log):
    """Runs a process. Returns its seconds of CPU, with those of its children, and how many of these were in
    the kernel."""
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command[:2]}: {process.returncode} {log.read_text()}")
    return usage.ru_utime + usage.ru_stime, usage.ru_stime


def write_config(folder, settings):
    config = folder / "safelight.toml"
    # This profile makes the pixels of wandb 0.28, so that all candidates compress the same pixels.
    image = f'[image]\nprofile = "wandb-0.20"\n{settings}'
    config.write_text(f'[store]\npath = "{folder}/store"\nfree_bytes_min = 0\n{image}')
    return config


class Safelight:
    """A candidate: a build of Safelight with some settings, and two run directories of path dumps. One has all dumps,
    and one few, to measure the start-up."""

    def __init__(self, place, runs, settings="", program=PROGRAM):
        self.place, self.runs, self.settings, self.program = place, runs, settings, program

    def ingest(self, run):
        """Runs `safelight ingest` into a new store. Returns seconds of CPU, and how many of these in the kernel."""
        shutil.rmtree(self.place / "store", ignore_errors=True)
        config = str(write_config(self.place, self.settings))
        return cpu_of_process([self.program, "ingest", str(run), "--config", config], self.place / "ingest.log")

    def round(self):
        """Returns seconds of CPU: of a picture without start-up, the kernel's part of it, and of the process."""
        (few, n_few), (all_, n_all) = self.runs
        start, start_system = self.ingest(few)
        whole, whole_system = self.ingest(all_)
        n = n_all - n_few
        return (whole - start) / n, (whole_system - start_system) / n, whole

    def check(self, pictures):
        """Returns the mean size of a file, and the number of pictures whose pixels differ from `wandb.Image`."""
        n = self.runs[1][1]
        paths = list((self.place / "store").glob("runs/*/media/images/*.png"))
        if len(paths) != n:
            sys.exit(f"ingest of {n} dumps made {len(paths)} pictures")
        differing = 0
        for path in paths:
            step = int(path.name.split("_")[1])
            if step < len(pictures):
                differing += not np.array_equal(pixels_of(path), to_uint8(pictures[step]))
        return sum(path.stat().st_size for path in paths) / n, differing


def write_bfloat16(path, picture):
    """Writes a file of the format safetensors, because NumPy has no bfloat16: float32 without its last 16 bits."""
    tensor = {"dtype": "BF16", "shape": picture.shape, "data_offsets": [0, 2 * picture.size]}
    header = json.dumps({name_of(path): tensor}).encode()
    bits = np.ascontiguousarray(picture).view("u4") >> 16
    path.write_bytes(len(header).to_bytes(8, "little") + header + bits.astype("<u2").tobytes())


def name_of(path):
    return path.parent.name


# Other forms of the same pictures: suffix, and the function that writes a dump.
FORMS = {
    "float16": (".npy", lambda path, picture: np.save(path, picture.astype("f2"))),
    "bfloat16": (".safetensors", write_bfloat16),
    "channels first": (".npy", lambda path, picture: np.save(path, picture.transpose(2, 0, 1).copy())),
    "Fortran order": (".npy", lambda path, picture: np.save(path, np.asfortranarray(picture))),
}


def as_written(form, picture):
    """A picture as the program finds it in a dump of this form."""
    if form == "float16":
        return picture.astype("f2")
    if form == "bfloat16":
        return (np.ascontiguousarray(picture).view("u4") & 0xFFFF0000).view("f4")
    return picture


def write_runs(folder, name, pictures, n_dumps, form=(".npy", np.save)):
    """Writes two run directories of path dumps: one with few, and one with all."""
    runs, (suffix, write) = [], form
    for what, n in (("few", 4), ("all", n_dumps)):
        place = folder / what / "dumps" / name
        place.mkdir(parents=True)
        for step in range(n):
            path = place / f"{step}{suffix}"
            if step < len(pictures):
                write(path, pictures[step])
            else:
                # A hard link to the same file. Peers also use the same arrays again.
                os.link(place / f"{step % len(pictures)}{suffix}", path)
        runs.append((folder / what, n))
    return runs


# ---------------------------------------------------------------------------------------------
# Tables.


def median_of(values):
    return statistics.median(values)


def digits(value, n=3):
    """`value` with n significant digits and commas."""
    if value == 0:
        return "0"
    places = max(n - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:,.{places}f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def measure_class(name, peers, old_program, folder, rounds):
    """Runs all candidates on one class. Returns the rounds of each, seconds of CPU a picture."""
    n_batch, n_dumps, what = CLASSES[name]
    place = folder / "class"
    place.mkdir()
    pictures = make_class(name)
    paths = []
    for n, picture in enumerate(pictures):
        paths.append(place / f"{n}.npy")
        np.save(paths[-1], picture)
    batch = [paths[n % len(paths)] for n in range(n_batch)]
    runs = write_runs(place, name, pictures, n_dumps)
    variants = {variant: Safelight(place, runs, setting) for variant, setting in SETTINGS.items()}
    if old_program:
        variants[OLD_BUILD] = Safelight(place, runs, program=old_program)
    for form in FORMS if name in IN_OTHER_FORMS else ():
        variants[form] = Safelight(place, write_runs(place / form, name, pictures, n_dumps, FORMS[form]))
    result = {
        "class": name,
        "what": what,
        "n_dumps": n_dumps,
        "pixels": int(np.mean([p.shape[0] * p.shape[1] for p in pictures])),
        "raw_bytes": int(np.mean([to_uint8(p).size for p in pictures])),
        "candidates": {},
    }
    candidates = result["candidates"]

    def note(candidate, cpu_s, system_s, **more):
        entry = candidates.setdefault(candidate, {"cpu_s": [], "system_s": []})
        entry["cpu_s"].append(cpu_s)
        entry["system_s"].append(system_s)
        entry.update(more)

    for round_ in range(rounds + 1):
        # The first round warms up. Only there the pixels are compared.
        is_checked = round_ == 0
        for candidate, peer in peers.items():
            made = peer.make(batch, is_checked)
            if made["bytes"] is None:
                continue
            if is_checked:
                candidates[candidate] = {
                    "cpu_s": [],
                    "system_s": [],
                    "bytes": made["bytes"] / n_batch,
                    "differing": made.get("differing"),
                }
            else:
                note(candidate, made["cpu_s"] / n_batch, made["system_s"] / n_batch)
        for candidate, safelight in variants.items():
            one, system, whole = safelight.round()
            if is_checked:
                size, differing = safelight.check([as_written(candidate, picture) for picture in pictures])
                candidates[candidate] = {
                    "cpu_s": [],
                    "system_s": [],
                    "whole_s": [],
                    "bytes": size,
                    "differing": differing,
                }
            else:
                note(candidate, one, system)
                candidates[candidate]["whole_s"].append(whole)
    shutil.rmtree(place)
    return result


def ratios(result, peer, candidate):
    """The ratio of a peer's CPU time to that of a candidate, for each round."""
    of = result["candidates"]
    return [a / b if b > 0 else math.inf for a, b in zip(of[peer]["cpu_s"], of[candidate]["cpu_s"])]


def both_sides(result):
    """CPU time in the training and in the daemon together, for each round."""
    of = result["candidates"]
    return [sum(pair) for pair in zip(of["safelight"]["cpu_s"], of["safelight.log"]["cpu_s"])]


def print_class(result):
    of = result["candidates"]
    rows = []
    for candidate, entry in of.items():
        cost = median_of(entry["cpu_s"])
        times = ratios(result, "wandb.Image", candidate)
        size = entry["bytes"] / of["Pillow"]["bytes"] if entry["bytes"] else None
        is_safelight = "whole_s" in entry
        rows.append(
            [
                f"**{candidate}**" if is_safelight else candidate,
                digits(cost * 1e6),
                digits(median_of(entry["system_s"]) * 1e6),
                digits(1 / median_of(ratios(result, PLAIN, candidate))),
                f"**{digits(median_of(times))}** ({digits(min(times))} to {digits(max(times))})"
                if is_safelight
                else digits(median_of(times)),
                f"{size:.3f}" if size else "-",
                {None: "-", 0: "equal"}.get(entry["differing"], "other"),
            ]
        )
    both = both_sides(result)
    times = [a / b for a, b in zip(of["wandb.Image + log"]["cpu_s"], both)]
    text = f"\n### {result['class']}: {result['what']}\n\n"
    text += table(
        [
            "candidate",
            "CPU µs a picture",
            "in the kernel",
            "× plain",
            "times less CPU than wandb.Image",
            "size × Pillow",
            "pixels",
        ],
        rows,
    )
    whole = digits(median_of(of["safelight"]["whole_s"]))
    text += (
        "\nTraining and daemon together (`safelight.log` + `safelight`):"
        f" {digits(median_of(both) * 1e6)} µs, **{digits(median_of(times))}** times less than"
        f" `wandb.Image` + `log`. The whole process, with start-up, for {result['n_dumps']:,} pictures:"
        f" {whole} s of CPU.\n"
    )
    return text


def print_goals(results):
    """The table of goals and measured figures."""
    rows = []
    for name, candidate, limits in GOALS:
        result = next((result for result in results if result["class"] == name), None)
        if result is None:
            continue
        of = result["candidates"]
        for what, goal in limits.items():
            if what == "size":
                got = of[candidate]["bytes"] / of["Pillow"]["bytes"]
                wanted, is_met = f"≤ {goal:.2f} × Pillow's size", got <= goal
            elif what == "a_second":
                got = 1 / median_of(of[candidate]["cpu_s"])
                wanted, is_met = f"≥ {goal:,} a second and core", got >= goal
                plain = 1 / median_of(of[PLAIN]["cpu_s"])
                if plain < 1.5 * goal:
                    wanted += f", if the plain loop makes {1.5 * goal:,.0f} (here: {plain:,.0f})"
            elif what in of:
                got = 1 / median_of(ratios(result, what, candidate))
                wanted, is_met = f"≤ {goal:.3g} × the CPU of {what}", got <= goal
            else:
                continue
            rows.append([name, candidate, wanted, digits(got, 4), "met" if is_met else "**not met**"])
    if not rows:
        return ""
    return "\n### Goals\n\n" + table(["class", "candidate", "wanted", "measured", ""], rows)


# ---------------------------------------------------------------------------------------------
# Whole processes.


def measure_whole(folder, rounds):
    """CPU time of whole processes, with start-up and imports: `safelight ingest`, and a Python script that
    makes a `wandb.Image` of each dump, without a run."""
    script = "import sys, numpy, wandb\nfor path in sys.argv[1:]: wandb.Image(numpy.load(path))"
    results = []
    for name in WHOLE:
        place = folder / "whole"
        _, n_dumps, _ = CLASSES[name]
        runs = write_runs(place, name, make_class(name), n_dumps)
        (run, _) = runs[1]
        paths = sorted(str(path) for path in run.glob("dumps/*/*.npy"))
        os.environ["TMPDIR"] = str(place)
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(cpu_of_process([sys.executable, "-c", script, *paths], place / "log")[0])
            ours.append(Safelight(place, runs).ingest(run)[0])
        shutil.rmtree(place)
        results.append({"class": name, "n": n_dumps, "safelight_s": ours, "wandb_s": theirs})
    return results


def print_whole(results):
    rows = []
    for result in results:
        times = [a / b for a, b in zip(result["wandb_s"], result["safelight_s"])]
        rows.append(
            [
                f"{result['n']:,} of {result['class']}",
                *(digits(median_of(result[name])) for name in ("wandb_s", "safelight_s")),
                f"**{digits(median_of(times))}** ({digits(min(times))} to {digits(max(times))})",
            ]
        )
    return "\n### Whole processes, with start-up and imports: seconds of CPU\n\n" + table(
        ["pictures", "Python with wandb.Image", "`safelight ingest`", "times less"], rows
    )


# ---------------------------------------------------------------------------------------------
# Threads.


def wall_of(place, runs, threads, cores):
    """Seconds from start to end for a picture, without start-up."""
    times = []
    for run, _ in runs:
        shutil.rmtree(place / "store", ignore_errors=True)
        config = write_config(place, f"[work]\nthreads = {threads}\n")
        command = ["taskset", "-c", cores, PROGRAM, "ingest", str(run), "--config", str(config)]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return (times[1] - times[0]) / (runs[1][1] - runs[0][1])


def measure_threads(folder, rounds):
    """Pictures a second: one thread that renders on one core, one on two cores, two on two cores."""
    results = []
    for name in THREADS:
        place = folder / "threads"
        runs = write_runs(place, name, make_class(name), 2 * CLASSES[name][1])
        ways = [(1, "0"), (1, "0,1"), (2, "0,1")]
        times = [[wall_of(place, runs, *way) for way in ways] for _ in range(rounds)]
        shutil.rmtree(place)
        results.append({"class": name, "wall_s": times})
    return results


def print_threads(results):
    rows = []
    for result in results:
        times = result["wall_s"]
        of_core = median_of([one_core / two for one_core, _, two in times])
        of_thread = median_of([one / two for _, one, two in times])
        rates = [digits(1 / median_of([way[i] for way in times])) for i in range(3)]
        met = "met" if of_core >= THREADS_GOAL else "**not met**"
        rows.append([result["class"], *rates, f"{of_core:.2f} ({met})", f"{of_thread:.2f}"])
    return "\n### Two threads that render: pictures a second\n\n" + table(
        ["pictures", "1 thread, 1 core", "1 thread, 2 cores", "2 threads, 2 cores",
         f"2 cores ÷ 1 core (goal: {THREADS_GOAL})", "2 threads ÷ 1"], rows
    )


# ---------------------------------------------------------------------------------------------


def machine(peers):
    """The machine, the versions and the load, in one paragraph."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        "?",
    )
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "").split()
    found = [name for name in ("avx2", "avx512vbmi", "sha_ni") if name in flags]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=REPO
    ).stdout
    versions = {PEERS[name][0] for name in peers if name in PEERS and PEERS[name][0]}
    versions = sorted(f"{name} {importlib.metadata.version(name)}" for name in versions | {"numpy"})
    return (
        f"Measured {datetime.date.today()}, commit {commit.strip() or '?'}; {os.cpu_count()} × {cpu}"
        f" ({', '.join(found)}), {memory:.0f} GiB, Linux {platform.release().split('-')[0]},"
        f" Python {platform.python_version()}; {', '.join(versions)};"
        f" load {os.getloadavg()[0]:.1f} at the start.\n"
    )


def put_into(page, text, begin=BEGIN, end=END):
    """Replaces the text between the markers of a page."""
    old = page.read_text()
    before, after = old[: old.index(begin)], old[old.index(end) :]
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"any of {', '.join(TABLES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few rounds, classes and peers")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--write", type=Path, help="a page to write the tables into")
    parser.add_argument("--old", help="another build of Safelight, which makes the same pictures")
    parser.add_argument("--other-python", help="a Python with wandb 0.31")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return serve_peer(options)
    for name in options.tables:
        if name not in TABLES:
            parser.error(f"no table {name}")
    if options.write and not (BEGIN in (page := options.write.read_text()) and END in page):
        parser.error(f"{options.write}: no {BEGIN} and {END}")
    options.rounds = options.rounds or (2 if options.quick else 7)
    tables = options.tables or (QUICK if options.quick else TABLES)

    # On SIGTERM raise SystemExit, so that the files on tmpfs are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    is_tmpfs = os.access("/dev/shm", os.W_OK)
    scratch = REPO / "target/peers"
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="safelight-peers-", dir="/dev/shm" if is_tmpfs else scratch))
    text, results, whole, threads = "", [], [], []

    def report(more):
        nonlocal text
        text += more
        print(more, end="", flush=True)

    peers = {}
    try:
        names, missing = [], []
        for name, (package, _) in PEERS.items():
            if options.quick and name not in QUICK_PEERS:
                continue
            try:
                importlib.metadata.version(package or "numpy")
                names.append(name)
            except importlib.metadata.PackageNotFoundError:
                missing.append(name)
        report(machine(names))
        if not is_tmpfs:
            report("Without tmpfs: all files are on a disk.\n")
        if missing:
            print(f"not installed, skipped: {', '.join(missing)}", file=sys.stderr)
        if any(name in CLASSES for name in tables):
            peers = {name: Peer(name, sys.executable, folder) for name in names}
            if options.other_python and not options.quick:
                peers[OTHER_WANDB] = Peer(OTHER_WANDB, options.other_python, folder)
        for name in tables:
            if name in CLASSES:
                results.append(measure_class(name, peers, options.old, folder, options.rounds))
                report(print_class(results[-1]))
        for peer in peers.values():
            peer.stop()
        if "whole" in tables:
            whole = measure_whole(folder, options.rounds)
            report(print_whole(whole))
        if "threads" in tables:
            threads = measure_threads(folder, options.rounds)
            report(print_threads(threads))
        report(print_goals(results))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    (scratch / "results.json").write_text(
        json.dumps(
            {"machine": text.splitlines()[0], "classes": results, "whole": whole, "threads": threads},
            indent=1,
        )
    )
    print(f"\n{scratch / 'results.json'}", file=sys.stderr)
    if options.write:
        put_into(options.write, text)


if __name__ == "__main__":
    main()
