"""One pass of the committer: from markers to rows. `safelight.catalog` says why each line arrives once."""

from __future__ import annotations

import random
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, Callable

from ._errors import CatalogError
from ._location import Location
from ._manifests import (
    Inbox,
    Manifest,
    ManifestId,
    Unusable,
    delete_markers,
    last_manifests,
    list_inbox,
    read_all,
    written,
)
from ._rows import NewerFormatError, Rows, Unreadable, names_of
from ._table import TXN_DAYS, ConflictError, Table

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["Blocked", "Folded", "Folder"]

# A commit has at most so many bytes of manifests, and one window more.
COMMIT_BYTES = 64 << 20
# Manifests that are read at the same time.
WINDOW = 64
# A conflict means that another committer has made progress, so this many in a row mean something else.
CONFLICTS_MAX = 20
# A manifest that is younger than this cannot have a `txn` that has expired.
TXN_SURE = timedelta(days=TXN_DAYS - 10)
# The most unreadable lines of a pass that are named. All are counted, and the table has them all.
NAMED_MAX = 20


@dataclass
class Blocked:
    """A run whose next manifest cannot be folded. The manifests after it wait."""

    manifest: str
    reason: str


@dataclass
class Folded:
    """What a pass did."""

    manifests: int = 0
    """Manifests that this pass committed."""
    rows: int = 0
    unreadable: int = 0
    """Rows of lines that are no items."""
    commits: int = 0
    conflicts: int = 0
    """Commits that were done again, because another committer was faster."""
    runs: int = 0
    """Runs with a marker, or all with `--all`."""
    markers: int = 0
    """Markers that were found."""
    markers_deleted: int = 0
    oldest_marker_s: float | None = None
    """The age of the oldest marker that was found, in seconds."""
    version: int = 0
    """Of the table, at the end."""
    seconds: float = 0.0
    unreadable_lines: list[Unreadable] = field(default_factory=list)
    """The first of them."""
    blocked: list[Blocked] = field(default_factory=list)

    def add(self, batch: _Batch) -> None:
        """Counts a batch that was committed."""
        unreadable = batch.rows.unreadable
        self.commits += 1
        self.manifests += batch.n_manifests
        self.rows += len(batch.rows)
        self.unreadable += len(unreadable)
        self.unreadable_lines += unreadable[: NAMED_MAX - len(self.unreadable_lines)]


class Folder:
    """Folds the manifests of a fleet into a table, pass by pass."""

    def __init__(self, fleet: Location, table: Location, progress: Callable[[str], None]) -> None:
        """Opens both. `progress` gets what the pass is at, and an empty text at its end."""
        self._fleet = fleet
        self._store: ObjectStore = fleet.open()
        self._table = Table(table)
        self._progress = progress

    def fold(self, is_all: bool = False) -> Folded:
        """Makes one pass.

        With `is_all`, and into a table without a commit, manifests that have no marker are folded, too.
        """
        start = time.monotonic()
        folded = Folded()
        self._table.reload()
        self._progress("listing the inbox")
        inbox = list_inbox(self._store)
        folded.markers = inbox.n_markers
        if inbox.oldest is not None:
            age = datetime.now(timezone.utc) - inbox.oldest
            folded.oldest_marker_s = max(0.0, age.total_seconds())
        wanted = {folder: max(numbers) for folder, numbers in inbox.numbers.items()}
        if is_all or self._table.version == 0:
            listed = last_manifests(self._store, lambda n: self._progress(f"listing manifests: {n}"))
            for folder, n in listed.items():
                wanted[folder] = max(n, wanted.get(folder, 0))
        folded.runs = len(wanted)
        try:
            with ThreadPoolExecutor(WINDOW, thread_name_prefix="manifests") as threads:
                one = _Pass(self._fleet, self._store, self._table, self._progress, threads)
                one.run(wanted, inbox, folded)
        finally:
            self._progress("")
        folded.version = self._table.version
        folded.seconds = time.monotonic() - start
        return folded


class _Pass:
    """The state of one pass."""

    def __init__(
        self,
        fleet: Location,
        store: ObjectStore,
        table: Table,
        progress: Callable[[str], None],
        threads: Executor,
    ) -> None:
        self._fleet, self._store, self._table = fleet, store, table
        self._progress, self._threads = progress, threads
        self._blocked: dict[str, Blocked] = {}
        # Of runs without a `txn`: the last manifest among the table's rows. It stays true while there is no `txn`,
        # because each commit makes one, and none expires during a pass.
        self._by_rows: dict[str, int] = {}

    def run(self, wanted: dict[str, int], inbox: Inbox, folded: Folded) -> None:
        """Commits batch after batch. The markers of each go after its commit.

        `wanted` has the last manifest that is known to be there, of each folder.
        """
        n_conflicts = 0
        while True:
            known = self._known(wanted)
            folded.markers_deleted += self._delete_markers(inbox, known)
            batch = self._next_batch(wanted, known)
            if not batch.last:
                break
            self._progress(f"committing {len(batch.rows)} rows of {batch.n_manifests} manifests")
            try:
                self._table.append(batch.rows.to_arrow(datetime.now(timezone.utc).date()), batch.last)
            except ConflictError as error:
                n_conflicts += 1
                if n_conflicts > CONFLICTS_MAX:
                    raise CatalogError(
                        f"{n_conflicts} commits in a row failed, the last one: {error}"
                    ) from error
                # Committers that begin together would else meet again.
                time.sleep(random.uniform(0, 0.1 * n_conflicts))
                self._table.reload()
                folded.conflicts += 1
                continue
            n_conflicts = 0
            folded.add(batch)
        folded.blocked = [self._blocked[folder] for folder in sorted(self._blocked)]

    def _known(self, wanted: dict[str, int]) -> dict[str, int]:
        """The last manifest of each run in the table. Runs that the table does not know have 0."""
        known = self._table.last_manifests(wanted)
        new = [folder for folder in wanted if folder not in known and folder not in self._by_rows]
        if new:
            self._progress(f"looking at {len(new)} new runs")
            first = [ManifestId(folder, 1) for folder in new]
            times = self._threads.map(lambda manifest: written(self._store, manifest), first)
            sure = datetime.now(timezone.utc) - TXN_SURE
            for manifest, time_written in zip(first, times):
                # A run that began lately has no `txn` that has expired. (Or its first manifest is missing.)
                is_new = time_written is None or time_written > sure
                self._by_rows[manifest.folder] = 0 if is_new else self._last_by_rows(manifest)
        return {folder: known.get(folder, self._by_rows.get(folder, 0)) for folder in wanted}

    def _last_by_rows(self, first: ManifestId) -> int:
        """The last manifest of a run whose `txn` may have expired."""
        (manifest,) = read_all(self._store, [first], self._threads)
        if isinstance(manifest, Unusable):
            return 0
        self._progress(f"asking the table for the last manifest of {first.folder}")
        return self._table.last_manifest_by_rows(*names_of(manifest))

    def _delete_markers(self, inbox: Inbox, known: dict[str, int]) -> int:
        """Deletes the markers of all manifests that the table has. Returns their number."""
        numbers = inbox.numbers
        done = [ManifestId(folder, n) for folder, of in numbers.items() for n in of if n <= known[folder]]
        if done:
            self._progress(f"deleting {len(done)} markers")
            delete_markers(self._store, [manifest.marker for manifest in done])
            for folder in {manifest.folder for manifest in done}:
                numbers[folder] = [n for n in numbers[folder] if n > known[folder]]
        return len(done)

    def _next_batch(self, wanted: dict[str, int], known: dict[str, int]) -> _Batch:
        """Reads manifests that the table lacks, of each run without a gap, until the batch is full."""
        batch = _Batch(Rows(self._fleet.object_url))
        open_runs = [folder for folder in sorted(wanted) if folder not in self._blocked]
        n_wanted = sum(max(0, wanted[folder] - known[folder]) for folder in open_runs)
        # A run that is found to be blocked is skipped from then on.
        ids = (
            ManifestId(folder, n)
            for folder in open_runs
            for n in range(known[folder] + 1, wanted[folder] + 1)
            if folder not in self._blocked
        )
        n_read = 0
        while some := list(islice(ids, WINDOW)):
            self._progress(f"reading manifests: {n_read} of {n_wanted}")
            n_read += len(some)
            for id, manifest in zip(some, read_all(self._store, some, self._threads)):
                if id.folder in self._blocked:
                    continue
                if isinstance(manifest, Manifest):
                    try:
                        batch.add(manifest)
                        continue
                    except NewerFormatError as error:
                        reason = str(error)
                else:
                    reason = manifest.reason
                self._blocked[id.folder] = Blocked(id.name, reason)
            if batch.n_bytes >= COMMIT_BYTES:
                break
        return batch


@dataclass
class _Batch:
    """What one commit adds."""

    rows: Rows
    last: dict[str, int] = field(default_factory=dict)
    """The number of the last manifest of each folder."""
    n_manifests: int = 0
    n_bytes: int = 0

    def add(self, manifest: Manifest) -> None:
        self.rows.add(manifest)
        self.last[manifest.id.folder] = manifest.id.n
        self.n_manifests += 1
        self.n_bytes += len(manifest.content)
