"""Python runs this file at its start if its folder is in `PYTHONPATH`: `python -m safelight.wandb` puts it there, so
that processes which the training starts hand their pictures over, too."""

import importlib.machinery
import importlib.util
import os
import sys


def _next() -> None:
    """Runs the `sitecustomize` that this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    rest = [path for path in sys.path if os.path.abspath(path or ".") != here]
    found = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if found is not None and found.loader is not None:
        module = importlib.util.module_from_spec(found)
        sys.modules["sitecustomize"] = module
        found.loader.exec_module(module)


try:
    import safelight.wandb

    safelight.wandb.install_on_import()
except Exception as error:  # The training must start all the same.
    print(f"safelight: pictures are left to wandb: {error}", file=sys.stderr)
_next()
