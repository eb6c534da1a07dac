"""Which attempt of a job this process belongs to, and which of its ranks it is.

The first line of a media log names both. A job that resumes from a checkpoint logs some steps again: the images
of the later attempt replace those of the earlier one at the same rank, key and step. So the processes of one
attempt must have one id, and two attempts must not.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from typing import Mapping

from ._files import host_name
from ._limits import LIMITS

__all__ = ["header", "rank_of", "session_of_header", "session_of_launcher", "session_of_process"]

# Longest id, in bytes, that the daemon reads.
SESSION_BYTES_MAX = LIMITS["session_bytes_max"]

# Names of the rank among all processes of a job, by launcher.
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "")
    return int(value) if value.isdecimal() else None


def rank_of(environment: Mapping[str, str]) -> int:
    """Returns the rank that the launcher gave to this process, else 0."""
    for name in _RANKS:
        rank = _number(environment, name)
        if rank is not None:
            return rank
    local = _number(environment, "LOCAL_RANK")
    if local is not None:
        # Some launchers say only this. Ranks need not be dense, but those of two nodes must differ.
        per_node = _number(environment, "LOCAL_WORLD_SIZE") or 1000
        return (_number(environment, "NODE_RANK") or 0) * per_node + local
    return _number(environment, "SLURM_PROCID") or 0


def session_of_launcher(environment: Mapping[str, str]) -> str | None:
    """Returns the id that all processes of this attempt know from their launcher, or `None`.

    | launcher | id |
    | --- | --- |
    | any | `SAFELIGHT_SESSION` |
    | torchrun with `--rdzv-id` | `TORCHELASTIC_RUN_ID`, `TORCHELASTIC_RESTART_COUNT` |
    | torchrun without it | the agent, which is the parent process, and the same count |
    | srun | `SLURM_JOB_ID`, `SLURM_STEP_ID`, `SLURM_RESTART_COUNT` |
    | mpirun | `PMIX_NAMESPACE` |
    """
    get = environment.get
    parts: tuple[str, ...] = ()
    if get("SAFELIGHT_SESSION"):
        parts = (environment["SAFELIGHT_SESSION"],)
    elif get("TORCHELASTIC_RUN_ID"):
        run = environment["TORCHELASTIC_RUN_ID"]
        # The id of a launch that was given none is "none", each time.
        run = _process(os.getppid()) or run if run == "none" else run
        parts = ("torchelastic", run, get("TORCHELASTIC_RESTART_COUNT", "0"))
    elif get("SLURM_JOB_ID") and get("SLURM_STEP_ID", "").isdecimal():
        # Without a step, the job's script started this process itself, perhaps several times in a row.
        step = environment["SLURM_STEP_ID"]
        parts = ("slurm", environment["SLURM_JOB_ID"], step, get("SLURM_RESTART_COUNT", "0"))
    elif get("PMIX_NAMESPACE"):
        parts = ("mpi", environment["PMIX_NAMESPACE"])
    return _cut("-".join(parts)) or None


def _cut(session: str) -> str:
    return session.encode("utf-8", "replace")[:SESSION_BYTES_MAX].decode("utf-8", "ignore")


def _process(pid: int) -> str | None:
    """Returns an id of a process that no other process has, on any machine and after any restart."""
    try:
        # Not as text: a signal handler may run while Python imports an encoding.
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read(8).decode("ascii")
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may contain anything. The start time is field 22.
            start = file.read().rpartition(b")")[2].split()[19].decode("ascii")
    except (OSError, IndexError, ValueError):
        return None
    return f"{host_name()}-{boot}-{pid}-{start}"


@functools.lru_cache(maxsize=1)
def session_of_process() -> str:
    """Returns an id for this process, its forks, and its siblings that `multiprocessing` started."""
    # Known only after the main module was imported again.
    parent = multiprocessing.parent_process()
    pid = os.getpid() if parent is None or parent.pid is None else parent.pid
    return _cut(_process(pid) or os.urandom(8).hex())


# A fork has the id of its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=session_of_process)


def header(session: str, rank: int) -> bytes:
    """Returns the first line of a log."""
    return json.dumps({"session": session, "rank": rank}, ensure_ascii=True).encode("ascii") + b"\n"


def session_of_header(start: bytes) -> str | None:
    """Returns the session that the start of a log names, or `None`."""
    try:
        first = json.loads(start.partition(b"\n")[0])
        session = first.get("session")
    except (ValueError, AttributeError):
        return None
    return session if isinstance(session, str) else None
