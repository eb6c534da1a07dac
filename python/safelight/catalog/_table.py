"""The table: how it is made, appended to and tidied. The only module that writes it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Iterable, Mapping
from uuid import uuid4

from ._errors import CatalogError, UsageError, first_words, needs
from ._location import Location
from ._rows import COLUMNS, schema
from ._txn import Transactions

if TYPE_CHECKING:
    import pyarrow
    from deltalake import DeltaTable

__all__ = ["ConflictError", "Table", "Tidied", "create", "tidy"]

TXN_DAYS = 90
"""How long the table knows the last manifest of a run that is quiet, in days."""
PROPERTIES = {
    # The columns of filters. Statistics of the others would only make the log longer.
    "delta.dataSkippingStatsColumns": "time,project,box,run,key,step,manifest,nan,inf",
    "delta.checkpointInterval": "20",
    # Twice the time after which `tidy` removes files that were merged.
    "delta.deletedFileRetentionDuration": "interval 14 days",
    "delta.setTransactionRetentionDuration": f"interval {TXN_DAYS} days",
}
DESCRIPTION = "Items of all boxes that run Safelight: one row for each line of their manifests"
VACUUM_HOURS = 7 * 24
# A commit may begin before midnight and arrive after it. A day is left alone for so long after it is over.
CLOSED_AFTER = timedelta(hours=1)
# Files of a compacted day, in bytes.
FILE_BYTES = 128 << 20
PLAIN_URL = re.compile(r"[a-z0-9]+://[A-Za-z0-9._/-]+")
# How the names of the table's own files begin.
OWN_NAMES = ("_delta_log", "day=", ".safelight-probe-")


class ConflictError(Exception):
    """The table has changed since it was read, in a way that may concern the commit. Read it again."""


def _delta() -> Any:
    try:
        import deltalake
    except ImportError:
        raise needs("deltalake") from None
    return deltalake


def _probe(location: Location) -> None:
    """Creates an object twice. Raises `CatalogError` if the store lets that happen: commits would be lost."""
    import obstore

    store = location.open(is_new=True)
    name = f".safelight-probe-{uuid4().hex[:16]}"
    tried = f"tried to create {name} below {location.url} twice with If-None-Match: *"
    try:
        try:
            obstore.put(store, name, b"probe", mode="create")
        except Exception as error:
            raise CatalogError(f"cannot write to {location.url}: {first_words(error)} ({tried})") from error
        try:
            obstore.put(store, name, b"again", mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return
        except Exception as error:
            raise CatalogError(
                f"the store answers with another error than 'already exists': {first_words(error)} ({tried})"
            ) from error
        raise CatalogError(
            f"the store replaced an object that exists, and a table in it would lose commits ({tried}): "
            "want a store with conditional writes, such as S3, Azure, Google's own protocol, SeaweedFS or a directory"
        )
    finally:
        try:
            obstore.delete(store, name)
        except Exception:
            pass  # The probe is safe to leave: nothing reads it.


def _check_place(location: Location, fleet: Location) -> None:
    """Raises `UsageError` if the table would lie among the fleet's objects, or they below the table, or if not all
    readers would find its files."""
    if not PLAIN_URL.fullmatch(location.url):
        raise UsageError(
            f"got the table {location.url!r}, want a URL of letters, digits and . _ - / only: readers of Delta tables "
            "escape other characters differently"
        )
    of_fleet = [f"{fleet.url}/{folder}/" for folder in ("inbox", "media", "runs")]
    if f"{fleet.url}/".startswith(f"{location.url}/") or f"{location.url}/".startswith(tuple(of_fleet)):
        raise UsageError(
            f"got the table {location.url} and the fleet {fleet.url}, want the table in a folder of its own"
        )


def create(location: Location, fleet: Location) -> bool:
    """Makes the table of a fleet. Returns `False` if it is there already."""
    _check_place(location, fleet)
    delta = _delta()
    _probe(location)
    options = dict(location.options)
    try:
        if delta.DeltaTable.is_deltatable(location.delta_url, options):
            Table(location)
            return False
        delta.DeltaTable.create(
            location.delta_url,
            schema(),
            mode="error",
            partition_by=["day"],
            name="safelight",
            description=DESCRIPTION,
            configuration=PROPERTIES,
            storage_options=options,
        )
    except delta.exceptions.DeltaError as error:
        raise CatalogError(f"cannot make a table at {location.url}: {first_words(error)}") from error
    return True


class Table:
    """The table at one version. The same `DeltaTable` reads and commits, because only so are commits of others in
    between compared with ours (delta-rs#2580)."""

    def __init__(self, location: Location) -> None:
        """Opens the table.

        Raises `CatalogError` if there is none, or one with other columns.
        """
        self._delta = _delta()
        self.location = location
        try:
            self._table: DeltaTable = self._delta.DeltaTable(
                location.delta_url, storage_options=dict(location.options)
            )
        except self._delta.exceptions.TableNotFoundError:
            raise CatalogError(
                f"found no table at {location.url}: make it with 'safelight-catalog init FLEET_URL {location.url}'"
            ) from None
        except Exception as error:
            raise CatalogError(f"cannot open the table {location.url}: {first_words(error)}") from error
        have = {one.name: str(getattr(one.type, "type", one.type)) for one in self._table.schema().fields}
        missing = [name for name, kind in COLUMNS if have.get(name) != kind]
        if missing:
            raise CatalogError(
                f"the table {location.url} lacks the columns {', '.join(missing)}, or has them with another type: "
                "make another table with 'safelight-catalog init', and fold into it"
            )
        self._transactions = Transactions(location.open())

    @property
    def version(self) -> int:
        return self._table.version()

    def reload(self) -> None:
        """Moves on to the latest version."""
        try:
            self._table.update_incremental()
        except Exception as error:
            raise CatalogError(f"cannot read the table {self.location.url}: {first_words(error)}") from error

    def last_manifests(self, folders: Iterable[str]) -> dict[str, int]:
        """Returns the last manifest of each folder for which the table still has a `txn`."""
        return self._transactions.of(self._table, folders)

    def last_manifest_by_rows(self, box: str, run: str) -> int:
        """Returns the greatest manifest among the rows of a run, or 0. Reads three columns of the run's files."""
        import pyarrow

        builder = self._delta.QueryBuilder().register("items", self._table)
        where = " and ".join(f"{name} = '{value}'" for name, value in _quoted(box=box, run=run))
        try:
            found = pyarrow.table(builder.execute(f"select max(manifest) as n from items where {where}"))
        except Exception as error:
            raise CatalogError(f"cannot query the table {self.location.url}: {first_words(error)}") from error
        return found["n"][0].as_py() or 0

    def append(self, rows: pyarrow.Table, last: Mapping[str, int]) -> None:
        """Commits rows, and the number of the last manifest of each folder with them.

        Raises `ConflictError` if another committer has committed one of the folders since `reload`.
        """
        delta = self._delta
        now_ms = int(time.time() * 1000)
        transactions = [delta.Transaction(folder, n, now_ms) for folder, n in sorted(last.items())]
        try:
            delta.write_deltalake(
                self._table,
                rows,
                mode="append",
                writer_properties=delta.WriterProperties(compression="ZSTD"),
                commit_properties=delta.CommitProperties(app_transactions=transactions),
            )
        except delta.exceptions.CommitFailedError as error:
            raise ConflictError(first_words(error)) from error
        except Exception as error:
            raise CatalogError(
                f"cannot commit to the table {self.location.url}: {first_words(error)}"
            ) from error

    def files_of_closed_days(self) -> tuple[str, dict[str, int]]:
        """Returns the last day that is closed, `YYYY-MM-DD`, and the number of files of each day up to it."""
        import pyarrow

        last = (datetime.now(timezone.utc) - CLOSED_AFTER - timedelta(days=1)).strftime("%Y-%m-%d")
        n_files: dict[str, int] = {}
        if self.version > 0:
            actions = pyarrow.table(self._table.get_add_actions(flatten=True))
            for day in map(str, actions["partition.day"].to_pylist()):
                if day <= last:
                    n_files[day] = n_files.get(day, 0) + 1
        return last, n_files

    def compact(self, last_day: str) -> None:
        """Merges the files of each day up to this one, and writes a checkpoint."""
        try:
            self._table.optimize.compact(
                partition_filters=[("day", "<=", last_day)],
                target_size=FILE_BYTES,
                writer_properties=self._delta.WriterProperties(compression="ZSTD"),
            )
            self._table.create_checkpoint()
            self._table.cleanup_metadata()
        except self._delta.exceptions.CommitFailedError as error:
            raise CatalogError(
                f"another command has changed closed days of {self.location.url} meanwhile: {first_words(error)}"
            ) from error
        except Exception as error:
            raise CatalogError(
                f"cannot compact the table {self.location.url}: {first_words(error)}"
            ) from error

    def vacuum(self) -> int:
        """Removes files that no version of the last seven days names. Returns their number.

        Raises `CatalogError` if something else lies beside the table's files, because it would be removed, too.
        """
        import obstore

        try:
            beside = obstore.list_with_delimiter(self.location.open())
            names = [*beside["common_prefixes"], *(one["path"] for one in beside["objects"])]
        except Exception as error:
            raise CatalogError(f"cannot list {self.location.url}: {first_words(error)}") from error
        foreign = [name for name in names if not name.rstrip("/").startswith(OWN_NAMES)]
        if foreign:
            raise CatalogError(
                f"found {foreign[0]!r} beside the table's files, want only the table below {self.location.url}: "
                "nothing is removed"
            )
        try:
            # Tombstones outlast this time, so that they are still there when it is over.
            return len(
                self._table.vacuum(
                    retention_hours=VACUUM_HOURS, dry_run=False, enforce_retention_duration=False, full=True
                )
            )
        except Exception as error:
            raise CatalogError(
                f"cannot vacuum the table {self.location.url}: {first_words(error)}"
            ) from error


def _quoted(**values: str) -> list[tuple[str, str]]:
    return [(name, value.replace("'", "''")) for name, value in values.items()]


@dataclass
class Tidied:
    """What `tidy` did."""

    days: int
    """Closed days whose files were merged."""
    files_before: int
    """Files of the closed days before."""
    files_after: int
    files_removed: int
    """Files that no version of the last seven days names."""
    version: int
    """Of the table."""
    seconds: float


def tidy(location: Location) -> Tidied:
    """Merges the files of closed days, writes a checkpoint, and removes old files. Safe beside `fold`."""
    start = time.monotonic()
    table = Table(location)
    last_day, before = table.files_of_closed_days()
    table.compact(last_day)
    n_removed = table.vacuum()
    _, after = table.files_of_closed_days()
    n_days = sum(after.get(day, 0) != n for day, n in before.items())
    n_before, n_after = sum(before.values()), sum(after.values())
    return Tidied(n_days, n_before, n_after, n_removed, table.version, time.monotonic() - start)
