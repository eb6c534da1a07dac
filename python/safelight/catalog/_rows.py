"""Lines of manifests to rows of the table. No line is left out: one that cannot be read is a row, too."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any, Callable, Sequence
from urllib.parse import unquote

from ._errors import needs

if TYPE_CHECKING:
    import pyarrow

    from ._manifests import Manifest

__all__ = ["COLUMNS", "UNREADABLE", "NewerFormatError", "Rows", "Unreadable", "names_of", "schema"]

VERSION_FIELD = "v"
VERSION = 1
"""The version of lines that this program reads."""
UNREADABLE = "unreadable"
"""The state of the row of a line that is no item. Its `reason` says why, and its `item` has the text."""

INTEGER_MAX = (1 << 63) - 1
# Of the year 9999, as of Python.
TIME_MAX = 253402300800.0
# The fields of a line that are columns by the same name, with their types.
TEXTS = (
    "project", "box", "run", "key", "state", "reason", "class", "caption", "file_type", "mode", "rule", "profile",
    "format",
)  # fmt: skip
INTEGERS = ("step", "index", "seq", "grouping", "width", "height", "size")

COLUMNS: tuple[tuple[str, str], ...] = (
    ("day", "date"),
    ("time", "timestamp"),
    ("project", "string"),
    ("box", "string"),
    ("run", "string"),
    ("key", "string"),
    ("step", "long"),
    ("index", "long"),
    ("state", "string"),
    ("reason", "string"),
    ("class", "string"),
    ("nan", "long"),
    ("inf", "long"),
    ("min", "double"),
    ("max", "double"),
    ("mean", "double"),
    ("std", "double"),
    ("clipped", "double"),
    ("constant", "boolean"),
    ("seq", "long"),
    ("manifest", "long"),
    ("caption", "string"),
    ("grouping", "long"),
    ("object", "string"),
    ("file_type", "string"),
    ("mode", "string"),
    ("width", "long"),
    ("height", "long"),
    ("size", "long"),
    ("rule", "string"),
    ("profile", "string"),
    ("format", "string"),
    ("source", "string"),
    ("xxh3", "string"),
    ("item", "string"),
)
"""Names and Delta types of the columns, in order."""


class NewerFormatError(Exception):
    """A line was written by a later version of Safelight, whose meaning this one must not guess."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"got lines of format {version}, want at most {VERSION}: update the package safelight"
        )


class _UnreadableError(Exception):
    """A line is not an item."""


def schema() -> pyarrow.Schema:
    """The columns as Arrow has them."""
    try:
        import pyarrow
    except ImportError:
        raise needs("pyarrow") from None
    types = {
        "date": pyarrow.date32(),
        "timestamp": pyarrow.timestamp("us", "UTC"),
        "string": pyarrow.string(),
        "long": pyarrow.int64(),
        "double": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
    }
    return pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS])


def _wrong(name: str, value: Any, want: str) -> _UnreadableError:
    return _UnreadableError(f"field {name!r}: got {_shown(value)}, want {want}")


def _take_texts(item: dict[str, Any], names: Sequence[str], row: dict[str, Any]) -> None:
    for name in names:
        value = row[name] = item.pop(name, None)
        if value is not None and type(value) is not str:
            raise _wrong(name, value, "a text")


def _take_integers(item: dict[str, Any], names: Sequence[str], row: dict[str, Any]) -> None:
    for name in names:
        value = row[name] = item.pop(name, None)
        if value is not None and (type(value) is not int or not 0 <= value <= INTEGER_MAX):
            raise _wrong(name, value, f"an integer of 0 to {INTEGER_MAX}")


def _take_numbers(item: dict[str, Any], names: Sequence[str], row: dict[str, Any]) -> None:
    for name in names:
        value = row[name] = item.pop(name, None)
        if value is None or type(value) is float:
            continue
        if type(value) is not int or abs(value) > INTEGER_MAX:
            raise _wrong(name, value, "a number")
        row[name] = float(value)


def _take_object(item: dict[str, Any], name: str) -> dict[str, Any]:
    value = item.pop(name, None)
    if value is None:
        return {}
    if type(value) is not dict:
        raise _wrong(name, value, "an object")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _time(item: dict[str, Any]) -> datetime | None:
    """The time of a line in seconds, to the microsecond. One that no calendar has stays in the rest of the item."""
    seconds: Any = item.get("time")
    if type(seconds) in (int, float) and 0 <= seconds < TIME_MAX:
        del item["time"]
        return datetime.fromtimestamp(seconds, timezone.utc)
    if seconds is None:
        item.pop("time", None)
    return None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"got {name}, which JSON does not have")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _item_of(line: bytes) -> dict[str, Any]:
    """The object of a line whose version is ours."""
    try:
        item = DECODER.decode(line.decode("utf-8"))
        if b"\\u" in line:
            # Half of a surrogate pair is no text for Arrow.
            ENCODER.encode(item).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(f"not JSON: {error}") from None
    if not isinstance(item, dict):
        raise _UnreadableError(f"got {_shown(item)}, want an object")
    version = item.pop(VERSION_FIELD, None)
    if type(version) is int and version > VERSION:
        raise NewerFormatError(version)
    if type(version) is not int or version != VERSION:
        raise _wrong(VERSION_FIELD, version, str(VERSION))
    return item


def _row(line: bytes, object_url: Callable[[str], str]) -> dict[str, Any]:
    """The row of a line, without `day` and `manifest`."""
    item = _item_of(line)
    row: dict[str, Any] = {"time": _time(item)}
    _take_texts(item, TEXTS, row)
    _take_integers(item, INTEGERS, row)
    for name in ("box", "run", "state", "seq"):
        if row[name] is None:
            raise _UnreadableError(f"field {name!r} is missing")
    stats = _take_object(item, "stats")
    _take_integers(stats, ("nan", "inf"), row)
    _take_numbers(stats, ("min", "max", "mean", "std", "clipped"), row)
    is_constant = row["constant"] = stats.pop("constant", None)
    if is_constant is not None and type(is_constant) is not bool:
        raise _wrong("constant", is_constant, "true or false")
    source = _take_object(item, "source")
    _take_texts(source, ("path", "xxh3"), row)
    row["source"] = row.pop("path")
    _take_texts(item, ("object",), row)
    if row["object"] is not None:
        row["object"] = object_url(row["object"])
        # The name of the object has the digest.
        item.pop("sha256", None)
    # Where the picture lies in the box's store is of no use elsewhere.
    item.pop("path", None)
    for name, left in (("stats", stats), ("source", source)):
        if left:
            item[name] = left
    rest = {name: value for name, value in item.items() if value is not None}
    try:
        row["item"] = ENCODER.encode(rest) if rest else None
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(f"not JSON: {error}") from None
    return row


def _folder_names(manifest: Manifest) -> tuple[str, str]:
    """Box and run of a manifest without a readable line, as its folder has them."""
    box, run = manifest.id.folder.split("/")
    return unquote(box), unquote(run)


def names_of(manifest: Manifest) -> tuple[str, str]:
    """Box and run of a manifest, from its first readable line."""
    for line in manifest.content.split(b"\n"):
        try:
            row = _row(line, str)
        except (_UnreadableError, NewerFormatError):
            continue
        return row["box"], row["run"]
    return _folder_names(manifest)


@dataclass
class Unreadable:
    """A line that is no item."""

    manifest: str
    line: int
    """From 1."""
    reason: str


@dataclass
class Rows:
    """Rows to be appended, column by column, and the lines that could not be read."""

    object_url: Callable[[str], str]
    unreadable: list[Unreadable] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name, _ in COLUMNS})

    def __len__(self) -> int:
        return len(self.columns["manifest"])

    def add(self, manifest: Manifest) -> None:
        """Adds all lines of a manifest, or none.

        Raises `NewerFormatError`.
        """
        rows: list[dict[str, Any]] = []
        bad: list[tuple[int, bytes, str]] = []
        place: tuple[str, str] | None = None
        for n, line in enumerate(manifest.content.split(b"\n"), 1):
            if not line:
                continue
            try:
                row = _row(line, self.object_url)
                # A folder has the manifests of one run.
                place = place or (row["box"], row["run"])
                if (row["box"], row["run"]) != place:
                    raise _UnreadableError(
                        f"got box {row['box']!r} and run {row['run']!r} in a manifest of {place[0]!r} and {place[1]!r}"
                    )
                rows.append(row)
            except _UnreadableError as error:
                bad.append((n, line, str(error)))
        box, run = place or _folder_names(manifest)
        for n, line, reason in bad:
            item = ENCODER.encode({"line": n, "text": line.decode("utf-8", "replace")})
            rows.append({"box": box, "run": run, "state": UNREADABLE, "reason": reason, "item": item})
            self.unreadable.append(Unreadable(manifest.id.name, n, reason))
        for row in rows:
            row["manifest"] = manifest.id.n
        for name, column in self.columns.items():
            column.extend([row.get(name) for row in rows])

    def to_arrow(self, day: date) -> pyarrow.Table:
        """All rows, on the day of their commit."""
        import pyarrow

        columns = {**self.columns, "day": [day] * len(self)}
        return pyarrow.table(columns, schema=schema())
