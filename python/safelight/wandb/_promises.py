"""The promises that the lines of a run directory record: pictures that rows of a W&B run name already."""

from __future__ import annotations

import json
import os
from typing import Any, Iterator

__all__ = ["Promises", "names_of"]


def names_of(line: Any) -> list[str]:
    """The files that a line promises, relative to the files of the W&B run; none if it promises none.

    A name that would leave the folder `media` does not count.
    """
    try:
        files = line["wandb"]["files"]
        names = [files["image"], *files.get("masks", {}).values()]
        parts = [name.replace(os.sep, "/").split("/") for name in names]
    except (AttributeError, KeyError, TypeError):
        return []
    return names if all(part[0] == "media" and ".." not in part for part in parts) else []


class Promises:
    """The lines with promises in the media logs of a directory. Each `update` reads what was appended."""

    def __init__(self, directory: str, folder: str | None = None) -> None:
        """Only those of the W&B run in the directory `folder`, such as `run-20261129_181333-abc`, if it is given."""
        self._directory = directory
        self._folder = folder
        # Bytes that were read of each log.
        self._read: dict[str, int] = {}
        # By the name of the picture.
        self.lines: dict[str, dict[str, Any]] = {}

    def update(self) -> None:
        """Raises `OSError` if the directory cannot be read."""
        for name in sorted(os.listdir(self._directory)):
            if name.endswith(".media.jsonl"):
                for line in self._appended(name):
                    found = names_of(line)
                    if found and (self._folder is None or line["wandb"].get("dir") == self._folder):
                        self.lines[found[0]] = line

    def _appended(self, name: str) -> Iterator[Any]:
        """The whole lines that were appended since the last time, if they may have a promise."""
        with open(os.path.join(self._directory, name), "rb") as file:
            file.seek(self._read.get(name, 0))
            for text in file:
                if not text.endswith(b"\n"):
                    return
                self._read[name] = self._read.get(name, 0) + len(text)
                if b'"wandb"' in text:
                    try:
                        yield json.loads(text)
                    except ValueError:
                        # A torn line: the daemon reports it.
                        continue
