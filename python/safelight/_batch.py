"""Batches: the images of one `log`, written as a few files and one piece of the media log."""

from __future__ import annotations

import itertools
import os
from typing import Any, Collection, Iterable, Mapping, NamedTuple, Sequence

from ._dumps import Dump
from ._files import remove, safe, write_whole
from ._image import ANNOTATIONS, Image, dumps_in
from ._line import fit
from ._media_log import MediaLog
from ._values import json_bytes

__all__ = ["Entry", "Problem", "RunFiles"]

# Fewest small arrays that one `log` packs into a file. Fewer are files that `numpy.load` reads.
_PACKED_MIN = 4

# Largest array that is packed, and largest file of packed arrays, in bytes. The daemon reads the whole file for each
# of its images.
_PACKED_BYTES_MAX = 1 << 15
_PACK_BYTES_MAX = 1 << 17

# Longest text beside a packed image that is surely short enough for a line, in bytes.
_MORE_BYTES_MAX = 1 << 12


class Entry(NamedTuple):
    """An image to write at a key and step."""

    key: str
    step: int
    image: Image
    # When it was logged, in seconds since the Unix epoch.
    time: float
    # Further fields of the line.
    extra: Mapping[str, Any]
    # Names of the image's fields that are not written.
    dropped: Collection[str]


class Problem(NamedTuple):
    """Something that is not in the run directory, and why."""

    what: str
    error: Exception


class _Line(NamedTuple):
    """A line that is not yet in the log, and what it needs."""

    entry: Entry
    text: bytes
    # Paths of the files that only this line names, relative to the run directory.
    files: Sequence[str]
    packs: Sequence[_Pack]
    problems: Sequence[Problem]


class _Pack:
    """Small arrays in one file, one after another."""

    def __init__(self, path: str) -> None:
        # Relative to the run directory.
        self.path = path
        self.parts: list[bytes] = []
        self.n_bytes = 0

    def add(self, dump: Dump) -> dict[str, Any]:
        """Adds an array. Returns the reference for the log line."""
        elements, description = dump.raw()
        data = {"path": self.path, **description, "offset": self.n_bytes}
        self.parts.append(elements)
        self.n_bytes += len(elements)
        return data


class RunFiles:
    """The files that one process writes into a run directory. Any number of threads may share one."""

    def __init__(
        self, dir: str, limits: Mapping[str, int], log: MediaLog, token: str, is_packed: bool
    ) -> None:
        self.dir = dir
        self.log = log
        self._limits = limits
        # Part of each file's name, so that no other process has the name.
        self._token = token
        self._is_packed = is_packed
        self._numbers = itertools.count(1)

    def write(self, entries: Sequence[Entry]) -> list[Problem]:
        """Writes the dumps, then the lines that name them. Returns what is not written.

        A failure of one image costs no other. The files of an image that failed are removed, and so are those of
        all that have no line if something other than an `Exception` is raised, such as a `KeyboardInterrupt`.
        """
        made: list[_Line | Problem] = []
        packer = _Packer(self, entries) if self._is_packed and len(entries) > 1 else None
        packs = packer.packs if packer is not None else []
        try:
            for entry in entries:
                made.append(self._line(entry, packer))
            for pack in packs:
                self._write_pack(pack, made)
        except BaseException:
            self._remove_files([line for line in made if isinstance(line, _Line)], packs)
            raise
        problems = [problem for problem in made if isinstance(problem, Problem)]
        lines = [line for line in made if isinstance(line, _Line)]
        n_whole, error = self.log.append([line.text for line in lines]) if lines else (0, None)
        without_line = lines[n_whole:]
        del lines[n_whole:]
        used = {pack.path for line in lines for pack in line.packs}
        self._remove_files(without_line, [pack for pack in packs if pack.path not in used])
        if isinstance(error, Exception):
            problems += [Problem(line.entry.key, error) for line in without_line]
        elif error is not None:
            raise error
        for line in lines:
            problems += line.problems
        return problems

    def _line(self, entry: Entry, packer: _Packer | None) -> _Line | Problem:
        """Writes the files that only this line names, and adds small arrays to packs."""
        files: list[str] = []
        try:
            line = packer.line(entry) if packer is not None else None
            return line if line is not None else self._new_line(entry, packer, files)
        except BaseException as error:
            self._remove(files)
            if not isinstance(error, Exception):
                raise
            return Problem(entry.key, error)

    def _new_line(self, entry: Entry, packer: _Packer | None, files: list[str]) -> _Line:
        """Adds each file to `files` before it is written."""
        image = entry.image
        saver = _Saver(self, f"tensors/{safe(entry.key)}-{entry.step}", packer, files)
        line = {"key": entry.key, "step": entry.step, "data": saver.save(image._dump)}
        line.update((name, value) for name, value in image._fields.items() if name not in entry.dropped)
        if image._masks and "masks" not in entry.dropped:
            line["masks"] = saver.save_masks(image._masks)
        line["time"] = entry.time
        line.update(entry.extra)
        text, left_out = fit(line, self._limits, saver.save_beside)
        too_long = [Problem(f"{name} of {entry.key}", error) for name, error in left_out.items()]
        return _Line(entry, text, files, saver.packs, too_long)

    def _write_pack(self, pack: _Pack, made: list[_Line | Problem]) -> None:
        """Writes packed arrays. If that fails, writes each by itself: there may still be room for some of them."""
        try:
            write_whole(os.path.join(self.dir, pack.path), [b"".join(pack.parts)])
        except Exception:
            for i, line in enumerate(made):
                if isinstance(line, _Line) and pack in line.packs:
                    self._remove(line.files)
                    made[i] = self._line(line.entry, None)

    def _remove_files(self, lines: Iterable[_Line], packs: Iterable[_Pack]) -> None:
        for line in lines:
            self._remove(line.files)
        self._remove(pack.path for pack in packs)

    def _remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            remove(os.path.join(self.dir, path))

    def new_path(self, stem: str, extension: str) -> str:
        """Returns a name that no other file has, relative to the run directory."""
        return f"{stem}-{self._token}-{next(self._numbers)}{extension}"

    def save(self, path: str, dump: Dump) -> None:
        """Writes a dump into a file of its own."""
        whole = os.path.join(self.dir, path)
        if dump.file is None or not dump.file.take_name(whole):
            write_whole(whole, dump.content())


class _Saver:
    """Saves what one line names."""

    def __init__(self, of_run: RunFiles, stem: str, packer: _Packer | None, files: list[str]) -> None:
        self._of_run = of_run
        self._stem = stem
        self._packer = packer
        self._files = files
        self.packs: list[_Pack] = []

    def save(self, dump: Dump, ending: str = "") -> Any:
        """Writes a dump, or adds it to a pack. Returns the reference for the line."""
        if self._packer is not None and self._packer.takes(dump):
            pack = self._packer.pack(dump.array_bytes)
            if pack not in self.packs:
                self.packs.append(pack)
            return pack.add(dump)
        path = self._new_file(self._stem + ending, dump)
        return {"path": path, **dump.description} if dump.description else path

    def _new_file(self, stem: str, dump: Dump) -> str:
        path = self._of_run.new_path(stem, dump.extension)
        # First, so that the file is removed if an interrupt comes right after it was written.
        self._files.append(path)
        self._of_run.save(path, dump)
        return path

    def save_masks(self, masks: Any) -> Any:
        """Returns `masks` with references in place of the dumps."""
        if isinstance(masks, list):
            return [self.save_masks(item) for item in masks]
        if isinstance(masks, dict):
            return {name: self.save_masks(item) for name, item in masks.items()}
        return self.save(masks, "-mask") if isinstance(masks, Dump) else masks

    def save_beside(self, extension: str, content: bytes) -> Any:
        return {"path": self._new_file(self._stem, Dump(extension, [content]))}


class _Packer:
    """Decides which arrays of a batch share a file."""

    def __init__(self, files: RunFiles, entries: Sequence[Entry]) -> None:
        self.packs: list[_Pack] = []
        self._files = files
        self._step = entries[0].step
        n_small = 0
        for entry in entries:
            n_small += sum(map(self._is_small, dumps_in([entry.image._dump, entry.image._masks])))
            if n_small >= _PACKED_MIN:
                break
        self._is_on = n_small >= _PACKED_MIN
        # The last one, which is not full yet.
        self._pack: _Pack | None = None
        # Parts of the last line, and what they were made of.
        self._of_start: Any = None
        self._start = self._end = b""
        self._packs: tuple[_Pack, ...] = ()

    @staticmethod
    def _is_small(dump: Dump) -> bool:
        return dump.shape is not None and dump.file is None and dump.array_bytes <= _PACKED_BYTES_MAX

    def takes(self, dump: Dump) -> bool:
        return self._is_on and self._is_small(dump)

    def pack(self, n_bytes: int) -> _Pack:
        """Returns the file for an array of this size."""
        pack = self._pack
        if pack is None or pack.n_bytes + n_bytes > _PACK_BYTES_MAX:
            pack = self._pack = _Pack(self._files.new_path(f"tensors/packed-{self._step}", ".bin"))
            self.packs.append(pack)
        return pack

    def line(self, entry: Entry) -> _Line | None:
        """Packs an image whose line has nothing that may need a file. `None` for any other.

        Most lines of a batch differ only in the offset.
        """
        key, _, image, time, extra, dropped = entry
        dump, fields, pack = image._dump, image._fields, self._pack
        descr, shape = dump.descr, dump.shape
        if not self._is_on or descr is None or dump.file is not None:
            return None
        n_bytes = dump.array_bytes
        if n_bytes > _PACKED_BYTES_MAX:
            return None
        if image._masks or extra or dropped or (fields and not fields.keys().isdisjoint(ANNOTATIONS)):
            return None
        more = b"," + json_bytes(fields)[1:-1] if fields else b""
        if len(more) > _MORE_BYTES_MAX:
            return None
        if pack is None or pack.n_bytes + n_bytes > _PACK_BYTES_MAX:
            pack = self.pack(n_bytes)
        if (key, time, descr, shape, pack) != self._of_start:
            self._of_start = (key, time, descr, shape, pack)
            data = json_bytes({"path": pack.path, **dump.raw()[1]})
            self._start = b'{"key":%s,"step":%d,"data":%s,"offset":' % (
                json_bytes(key),
                entry.step,
                data[:-1],
            )
            self._end = b',"time":%a}' % time
            self._packs = (pack,)
        elements = dump.content()[-1]
        text = b"".join((self._start, str(pack.n_bytes).encode(), b"}", more, self._end))
        pack.parts.append(elements)
        pack.n_bytes += len(elements)
        return _Line(entry, text, (), self._packs, ())
