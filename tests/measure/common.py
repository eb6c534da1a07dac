"""Helpers of the measurements: dumps, a daemon with the unit's priorities, and the kernel's figures about it.

A measurement prints each figure beside its goal, with the load of the machine. A missed goal is no error,
because machines are noisy. A measurement fails only for a reason that noise can't explain, such as a lost
item.
"""

import ctypes
import http.client
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SAFELIGHT_PROGRAM", str(REPO / "target/release/safelight"))
FOLDER = Path(os.environ.get("SAFELIGHT_MEASURE", REPO / "target/measure"))
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LIBC = ctypes.CDLL(None, use_errno=True)


def say(text=""):
    print(text, flush=True)


def figure(row, what, got, goal):
    """Prints a figure beside the goal of one row of the design's table of goals."""
    load = os.getloadavg()[0]
    say(f"row {row:>2}  {what}: {got}   (goal: {goal}; load {load:.1f} on {os.cpu_count()} cores)")


def npy(descr, shape, data):
    axes = "".join(f"{n}, " for n in shape)
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes}), }}"
    header += " " * (-(11 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def gray(n, side=256):
    """An npy file of side x side pixels, different for each n. The default is 64 KiB."""
    row = bytes((n * 7 + i * 3) & 255 for i in range(side))
    return npy("|u1", (side, side), n.to_bytes(8, "little") + (row * side)[8:])


def fresh_folder(name, in_memory=False):
    folder = (Path("/dev/shm/safelight-measure") if in_memory else FOLDER) / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_uncached(path, parts):
    """Writes a file, syncs it, and drops it from the page cache."""
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def cached_bytes(path):
    """Bytes of a file that are in the page cache."""
    size = os.path.getsize(path)
    if size == 0:
        return 0
    fd = os.open(path, os.O_RDONLY)
    try:
        place = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if place in (None, ctypes.c_void_p(-1).value):
            return 0
        pages = ctypes.create_string_buffer((size + PAGE - 1) // PAGE)
        LIBC.mincore(place, size, pages)
        LIBC.munmap(place, size)
        return sum(byte & 1 for byte in pages.raw) * PAGE
    finally:
        os.close(fd)


def files_below(folder):
    return [Path(above) / name for above, _, names in os.walk(folder) for name in names]


def cached_below(folder):
    total = 0
    for path in files_below(folder):
        try:
            total += cached_bytes(path)
        except OSError:
            pass
    return total


def be_gentle():
    """Sets Nice=19, CPUSchedulingPolicy=batch and IOSchedulingClass=idle, as in the unit."""
    os.nice(19)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    SYS_IOPRIO_SET, IDLE = 251, 3 << 13
    if os.uname().machine == "x86_64":
        LIBC.syscall(SYS_IOPRIO_SET, 1, 0, IDLE)


def be_idle():
    """The same with CPUSchedulingPolicy=idle."""
    be_gentle()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("safelight", timeout=20)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """A daemon that watches FOLDER/runs."""

    def __init__(self, folder, settings="", prepare=be_gentle, wait_s=600, watch=""):
        self.folder = Path(folder)
        (self.folder / "runs").mkdir(exist_ok=True)
        config = self.folder / "safelight.toml"
        config.write_text(
            '[store]\npath = "store"\n[control]\nsocket = "control.sock"\n'
            f'[[watch]]\npath = "runs"\n{watch}\n{settings}\n'
        )
        self.log = self.folder / "daemon.log"
        start = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "daemon", "--config", str(config)], stderr=log, preexec_fn=prepare
            )
        self.pid = self.process.pid
        self.connection = None
        # The second message is that of builds before 2026-12.
        while not any(said in self.log_text() for said in ("initial scan complete", "looked at once")):
            if self.process.poll() is not None or time.monotonic() - start > wait_s:
                sys.exit(f"the daemon is not ready: {self.log_text()[-2000:]}")
            time.sleep(0.01)
        self.ready_s = time.monotonic() - start

    def log_text(self):
        return self.log.read_text(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def get(self, path):
        # The daemon closes an idle connection, so a first failure is retried on a new one.
        for is_last in (False, True):
            if self.connection is None:
                self.connection = Connection(self.folder / "control.sock")
            try:
                self.connection.request("GET", path)
                return self.connection.getresponse().read().decode()
            except (OSError, http.client.HTTPException):
                self.connection = None
                if is_last:
                    raise

    def metrics(self):
        lines = (line.rsplit(" ", 1) for line in self.get("/metrics").splitlines() if line[0] != "#")
        return {name: float(value) for name, value in lines}

    def n_items(self):
        """Number of items in the index: images, held and rejected."""
        metrics = self.metrics()
        return sum(int(metrics[f'safelight_store_items{{state="{state}"}}'])
                   for state in ("image", "held", "rejected"))

    def wait_for_items(self, n, wait_s=3600, pause_s=0.05):
        start = time.monotonic()
        while (got := self.n_items()) < n:
            if time.monotonic() - start > wait_s:
                sys.exit(f"{got} items, want {n}: items are lost, or the daemon is far too slow")
            time.sleep(pause_s)
        if got != n:
            sys.exit(f"{got} items, want {n}")
        return time.monotonic() - start

    def cpu_s(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def status(self, name):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
        return 0

    def rss_mb(self):
        return self.status("VmRSS") * 1024 / 1e6

    def peak_rss_mb(self):
        return self.status("VmHWM") * 1024 / 1e6

    def written_bytes(self):
        for line in Path(f"/proc/{self.pid}/io").read_text().splitlines():
            if line.startswith("write_bytes"):
                return int(line.split()[1])
        return 0

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)


def rest_of(daemon, seconds):
    """CPU in percent of one core, RSS in MB and bytes written during `seconds` without work."""
    cpu, written, start = daemon.cpu_s(), daemon.written_bytes(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    return (daemon.cpu_s() - cpu) / took * 100, daemon.rss_mb(), daemon.written_bytes() - written


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def run_parts(parser, parts):
    """Runs the parts named on the command line, or all."""
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(parts)}; default: all")
    options = parser.parse_args()
    for name in options.parts:
        if name not in parts:
            parser.error(f"{name!r}: want {', '.join(parts)}")
    for name in options.parts or parts:
        parts[name](options)
