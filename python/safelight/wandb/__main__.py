"""Runs a training whose pictures are handed over, or places pictures afterwards.

python -m safelight.wandb [--dir DIR] SCRIPT.py [ARGUMENT…]
python -m safelight.wandb [--dir DIR] -m MODULE [ARGUMENT…]
python -m safelight.wandb [--dir DIR] PROGRAM [ARGUMENT…]      such as torchrun or accelerate
python -m safelight.wandb path                                 a folder for PYTHONPATH, with the same effect
python -m safelight.wandb place RUN_DIR WANDB_DIR
"""

from __future__ import annotations

import argparse
import os
import shutil
import site
import subprocess
import sys
from typing import Sequence

__all__ = ["main"]


def _paths() -> list[str]:
    """The folder of the file that Python runs at its start, and that of this package if Python does not look there."""
    here = os.path.dirname(os.path.abspath(__file__))
    package = os.path.dirname(os.path.dirname(here))
    known = [*site.getsitepackages(), site.getusersitepackages()]
    is_known = package in map(os.path.abspath, known)
    return [os.path.join(here, "_start"), *([] if is_known else [package])]


def _run(directory: str | None, command: Sequence[str]) -> int:
    """Starts the command with an environment that installs the hand-over once wandb is imported."""
    first, rest = command[0], list(command[1:])
    if first == "-m" or first.endswith(".py"):
        program: str | None = sys.executable
        rest = [first, *rest]
    else:
        program = shutil.which(first)
    if program is None:
        print(f"safelight: got {first!r}, want a Python file, -m and a module, or a program", file=sys.stderr)
        return 2
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*_paths(), *([known] if known else [])])
    if directory is not None:
        os.environ["SAFELIGHT_WANDB"] = directory
    sys.stdout.flush()
    if os.name == "nt":
        return subprocess.call([program, *rest])
    os.execv(program, [program, *rest])


def _place(run_dir: str, wandb_dir: str) -> int:
    from ._afterwards import place

    try:
        report = place(run_dir, wandb_dir)
    except OSError as error:
        print(f"safelight: cannot read {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except (ValueError, ImportError) as error:
        print(f"safelight: {error}", file=sys.stderr)
        return 2
    print(
        f"{report.n_there} pictures were there, {report.n_placed} were put there, {len(report.missing)} are missing"
    )
    for name, reason in report.missing.items():
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if report.missing else 0


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code: 0 done, 1 a picture is missing, 2 usage, or a directory that is not the right one."""
    parser = argparse.ArgumentParser(
        prog="python -m safelight.wandb",
        usage="%(prog)s [--dir DIR] {SCRIPT.py | -m MODULE | PROGRAM} [ARGUMENT...]\n"
        "       %(prog)s path\n       %(prog)s place RUN_DIR WANDB_DIR",
        description="Runs a training that logs pictures with wandb, unchanged. Its pictures go to Safelight.",
    )
    parser.add_argument(
        "--dir", help="the run directory; {id} stands for the W&B run's id (default: runs/{id})"
    )
    # The training's own options are not to be read here.
    end = 0
    while end < len(arguments) and arguments[end].startswith("--"):
        end += 2 if arguments[end] == "--dir" else 1
    given, command = parser.parse_args(arguments[:end]), list(arguments[end:])
    if command == ["path"]:
        print(os.pathsep.join(_paths()))
        return 0
    if command[:1] == ["place"]:
        if len(command) != 3:
            parser.error("place needs RUN_DIR and WANDB_DIR")
        return _place(*command[1:])
    if not command or command == ["-m"]:
        parser.error("want a Python file, -m and a module, or a program")
    return _run(given.dir, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
