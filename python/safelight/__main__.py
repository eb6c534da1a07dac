"""Runs the program: `python -m safelight ls` is `safelight ls`.

The wheel with the program puts it beside the scripts of the environment. A wheel with the module alone has none. Then
the program of a system package or of `cargo install` is used, if PATH has one.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from typing import Iterator, Optional


def _places() -> Iterator[str]:
    """Yields the paths at which pip installs the program, the likeliest first."""
    name = "safelight" + (sysconfig.get_config_var("EXE") or "")
    yield os.path.join(sysconfig.get_path("scripts"), name)
    # `pip install --user`
    user = f"{os.name}_user"
    if user in sysconfig.get_scheme_names():
        yield os.path.join(sysconfig.get_path("scripts", scheme=user), name)
    # `pip install --target` and `--prefix`
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    yield os.path.join(package, "bin", name)
    yield os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(package))), "bin", name)


def find_program() -> Optional[str]:
    """Returns the path of the program, or None if neither this environment nor PATH has it."""
    for path in _places():
        if os.path.isfile(path):
            return path
    return shutil.which("safelight")


def main() -> int:
    """Runs the program with the arguments of this process.

    Returns its exit code where it can't replace this process.
    """
    program = find_program()
    if program is None:
        places = ", ".join(_places())
        print(
            "safelight: the program is not installed, only the Python module: not found in PATH nor at "
            f"{places}. There are wheels with the program for Linux; elsewhere this module writes run "
            "directories, and a machine with the program reads them.",
            file=sys.stderr,
        )
        return 1
    arguments = [program, *sys.argv[1:]]
    if os.name == "posix":
        os.execv(program, arguments)
    import subprocess

    return subprocess.run(arguments, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
