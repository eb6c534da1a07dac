"""Shows where the CPU time of a picture goes, by sampling `safelight ingest` with `perf`.

    ./test.sh peers where                              photographs, label maps, crops and digits
    ./test.sh peers where --write docs/performance.md  the same, written into that page

Needs `perf`, and a program with symbols. A sample belongs to the system call that it lies in, else to the function, else
to the thread. Functions are told by their names in the program, so a function that the compiler has put into another one
counts for that one.
"""

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import CLASSES, machine, make_class, put_into, table, write_config, write_runs

PROGRAM = os.environ["SAFELIGHT_PROGRAM"]
BEGIN, END = "<!-- where: written by ./test.sh peers where -->", "<!-- end of where -->"
SHOWN = ["photo512", "seg512L", "small64", "digits28"]
A_SECOND = 9_999

# System calls. Each pattern is of the call's name; `commit` is the thread that journals.
CALLS = [
    ("read the dump", r"pread|preadv|^read$|lseek"),
    ("open, look at and close files", r"open|stat|close|access|getdents"),
    ("write the journal", r"commit:pwrite|commit:write"),
    ("write the file", r"pwrite|^write$|ftruncate|fallocate"),
    ("rename", r"rename"),
    ("sync", r"sync|fadvise"),
    ("wake and wait for threads", r"futex|nanosleep|yield|poll"),
]
# Functions, the first that matches.
FUNCTIONS = [
    ("digest of the dump: XXH3", r"twox_hash"),
    ("statistics", r"convert::(sums|scan)"),
    ("conversion", r"convert::|simd::(half|cast)|simd::widen"),
    ("layout: planes to pixels, copies", r"interleave|planes|memmove|memcpy|copy_from_slice"),
    ("filters", r"safelight_png::(filter|noise)|filter_|residuals|paeth"),
    ("runs and copies", r"safelight_png::(spans|matches|kernels::zeros)"),
    ("frequencies and codes", r"safelight_png::(symbols|huffman|header)|deflate::Plan"),
    ("packing of codes", r"safelight_png"),
    ("checksums: Adler-32, CRC-32", r"adler|crc32"),
    ("digest of the file: SHA-256", r"sha2|sha256"),
    ("memory: allocate and free", r"malloc|free|calloc|realloc|unlink_chunk|alloc_perturb|page_fault|clear_page"),
]
# Threads by their names. The main one has that of the program.
THREADS = {Path(PROGRAM).name[:15]: "find and plan dumps: the rest", "commit": "journal and index: the rest"}
REST = "render: the rest"


def stage_of(thread, frames):
    """The stage of a sample: `frames` are the names of its functions, innermost first."""
    for frame in frames:
        if call := re.match(r"__(?:x64|do|arm64)_sys_(\w+)", frame):
            name = re.sub(r"^new|\d+$", "", call[1])
            who = f"commit:{name}" if thread == "commit" else name
            return next((stage for stage, pattern in CALLS if re.search(pattern, who)), "other system calls")
    for stage, pattern in FUNCTIONS:
        if frames and re.search(pattern, frames[0]):
            return stage
    return THREADS.get(thread, "index: its own threads" if "sled" in thread else REST)


def samples(data):
    """The stages of all samples of a recording, with their numbers."""
    script = subprocess.run(
        ["perf", "script", "-i", data, "--no-inline", "-F", "comm,ip,sym"], capture_output=True, text=True, check=True
    )
    counts = collections.Counter()
    for sample in script.stdout.split("\n\n"):
        lines = sample.strip("\n").split("\n")
        if lines[0].strip():
            frames = [line.split(None, 1)[1] for line in lines[1:] if len(line.split(None, 1)) == 2]
            counts[stage_of(lines[0].strip(), frames)] += 1
    return counts


def recorded(folder, run):
    shutil.rmtree(folder / "store", ignore_errors=True)
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(A_SECOND), "-g", "-o", folder / "perf.data"]
    command += [PROGRAM, "ingest", str(run), "--config", write_config(folder, "")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[:2]}: {done.returncode} {done.stdout} {done.stderr}")
    return samples(folder / "perf.data")


def measure(name, folder, rounds):
    """µs of CPU of each stage of a picture, without start-up."""
    place = folder / name
    (few, n_few), (all_, n_all) = write_runs(place, name, make_class(name), 4 * CLASSES[name][1])
    total = collections.Counter()
    for _ in range(rounds):
        total.update(recorded(place, all_))
        total.subtract(recorded(place, few))
    shutil.rmtree(place)
    return {stage: max(n, 0) * 1e6 / A_SECOND / rounds / (n_all - n_few) for stage, n in total.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classes", nargs="*", help=f"any of {', '.join(CLASSES)}; default: {', '.join(SHOWN)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a page to write the table into")
    options = parser.parse_args()
    if not shutil.which("perf"):
        sys.exit("perf is missing: on Debian it is in the package linux-perf")
    names = options.classes or SHOWN
    folder = Path(tempfile.mkdtemp(prefix="safelight-where-", dir="/dev/shm"))
    try:
        costs = {name: measure(name, folder, options.rounds) for name in names}
    finally:
        shutil.rmtree(folder)
    stages = [stage for stage, _ in CALLS + FUNCTIONS]
    stages += ["other system calls", REST, *THREADS.values(), "index: its own threads"]
    rows = [[stage, *(f"{costs[name].get(stage, 0):,.1f}" for name in names)] for stage in stages]
    rows.append(["**all**", *(f"**{sum(costs[name].values()):,.0f}**" for name in names)])
    text = machine([]) + "\n" + table(["µs of CPU a picture", *names], rows)
    print(text)
    if options.write:
        put_into(options.write, text, BEGIN, END)


if __name__ == "__main__":
    main()
