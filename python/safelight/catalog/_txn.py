"""Which manifests the table has: the `txn` actions of its log.

`DeltaTable.transaction_version` answers for one run, and reads the checkpoint and all commits after it each
time: on S3 with 1,000 boxes, minutes. So the log is read once for all runs. Where its form is not the one
that delta-rs writes, each run is asked for after all.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Iterable

from ._errors import CatalogError, first_words

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from obstore.store import ObjectStore

__all__ = ["Transactions"]

LOG = "_delta_log"
# If there are more commits since the last look, a checkpoint is the shorter way.
COMMITS_MAX = 100


class Transactions:
    """The number of the last manifest of each folder `BOX/RUN`, as of one version of the table."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._version: int | None = None
        self._last: dict[str, int] = {}

    def of(self, table: DeltaTable, folders: Iterable[str]) -> dict[str, int]:
        """Returns the numbers of those folders that have one at the version of `table`, which must never go back."""
        try:
            self._follow(table.version())
        except _OtherFormError:
            asked = ((folder, table.transaction_version(folder)) for folder in folders)
            return {folder: n for folder, n in asked if n is not None}
        return {folder: self._last[folder] for folder in folders if folder in self._last}

    def _follow(self, version: int) -> None:
        """Reads the log up to this version: from where the last call stopped, else from the last checkpoint."""
        last = None
        if self._version is not None and version - self._version <= COMMITS_MAX:
            last = self._replayed(self._version, self._last, version)
        if last is None:
            at, before = self._checkpoint(version)
            last = self._replayed(at, before, version)
        if last is None:
            raise _OtherFormError
        self._version, self._last = version, last

    def _replayed(self, at: int, before: dict[str, int], version: int) -> dict[str, int] | None:
        """The state after the commits that follow version `at`. `None` if one of them is cleaned up."""
        last = dict(before)
        for n in range(at + 1, version + 1):
            commit = self._content(f"{n:020}.json")
            if commit is None:
                return None
            for line in commit.splitlines():
                # Most of a commit's bytes are the statistics of its files.
                if line.startswith(b'{"txn":'):
                    txn = json.loads(line)["txn"]
                    last[txn["appId"]] = txn["version"]
                elif b'"txn"' in line[:40]:
                    raise _OtherFormError
        return last

    def _checkpoint(self, version: int) -> tuple[int, dict[str, int]]:
        """The state at the last checkpoint, or before the first commit."""
        from pyarrow import parquet

        hint = self._content("_last_checkpoint")
        if hint is None:
            return -1, {}
        described = json.loads(hint)
        at = described["version"]
        # A checkpoint in parts, or with files beside it, as other programs may write it.
        if at > version or described.get("parts") or described.get("v2Checkpoint"):
            raise _OtherFormError
        content = self._content(f"{at:020}.checkpoint.parquet")
        if content is None:
            raise _OtherFormError
        file = parquet.ParquetFile(io.BytesIO(content))
        if "txn" not in file.schema_arrow.names:
            raise _OtherFormError
        # A checkpoint may name further files, which have its actions. delta-rs writes the column without values.
        if "sidecar" in file.schema_arrow.names:
            sidecar = file.read(columns=["sidecar"])["sidecar"]
            if sidecar.null_count < len(sidecar):
                raise _OtherFormError
        rows = file.read(columns=["txn.appId", "txn.version"])["txn"].to_pylist()
        found = {row["appId"]: row["version"] for row in rows if row and row["appId"] is not None}
        return at, found

    def _content(self, name: str) -> bytes | None:
        import obstore

        try:
            return bytes(obstore.get(self._store, f"{LOG}/{name}").bytes())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise CatalogError(f"cannot read {LOG}/{name} of the table: {first_words(error)}") from error


class _OtherFormError(Exception):
    """The log was written in another form than delta-rs writes, or is newer than the version asked for."""
