"""Names below the fleet's URL, the lists of them, and the content of manifests.

    runs/BOX/RUN/00000001.jsonl      a manifest; numbers have no gaps, and no manifest is ever overwritten
    inbox/BOX/RUN/00000001           its marker, empty; made after the manifest

BOX and RUN are folder names as Safelight writes them: escaped, and long ones shortened. So they name a run, but its
names stand in the lines.
"""

from __future__ import annotations

import re
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence

from ._errors import CatalogError, first_words

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = [
    "Inbox",
    "Manifest",
    "ManifestId",
    "Unusable",
    "delete_markers",
    "last_manifests",
    "list_inbox",
    "read_all",
    "written",
]

MARKER = re.compile(r"inbox/([^/]+/[^/]+)/([0-9]{8,18})")
MANIFEST = re.compile(r"runs/([^/]+/[^/]+)/([0-9]{8,18})\.jsonl")
# Safelight ends a manifest at 8 MiB, after the line that passes it.
MANIFEST_BYTES_MAX = 128 << 20
# The most names that one request deletes: the limit of S3.
DELETE_MAX = 1000


@dataclass(frozen=True)
class ManifestId:
    """A manifest: the folder `BOX/RUN`, and its number from 1."""

    folder: str
    n: int

    @property
    def name(self) -> str:
        return f"runs/{self.folder}/{self.n:08}.jsonl"

    @property
    def marker(self) -> str:
        return f"inbox/{self.folder}/{self.n:08}"


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read."""

    id: ManifestId
    content: bytes


@dataclass(frozen=True)
class Unusable:
    """Why a manifest cannot be folded."""

    reason: str


@dataclass
class Inbox:
    """The markers that were there."""

    numbers: dict[str, list[int]]
    """Of each folder, not in order."""
    oldest: datetime | None
    """When the oldest marker was made."""

    @property
    def n_markers(self) -> int:
        return sum(map(len, self.numbers.values()))


def _listed(store: ObjectStore, prefix: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, int, datetime]]:
    """Yields folder, number and time of each name that has the form."""
    import obstore

    try:
        for page in obstore.list(store, prefix, chunk_size=1000):
            for found in page:
                name = pattern.fullmatch(found["path"])
                if name:
                    yield name[1], int(name[2]), found["last_modified"]
    except Exception as error:
        raise CatalogError(f"cannot list {prefix}/: {first_words(error)}") from error


def list_inbox(store: ObjectStore) -> Inbox:
    """Lists all markers. One request for each 1,000."""
    inbox = Inbox({}, None)
    for folder, n, made in _listed(store, "inbox", MARKER):
        inbox.numbers.setdefault(folder, []).append(n)
        inbox.oldest = made if inbox.oldest is None else min(inbox.oldest, made)
    return inbox


def last_manifests(store: ObjectStore, saw: Callable[[int], None]) -> dict[str, int]:
    """Lists all manifests. Returns the greatest number of each folder.

    `saw` gets the number of manifests from time to time.
    """
    last: dict[str, int] = {}
    for i, (folder, n, _) in enumerate(_listed(store, "runs", MANIFEST)):
        last[folder] = max(last.get(folder, 0), n)
        if i % 1000 == 0:
            saw(i)
    return last


def written(store: ObjectStore, manifest: ManifestId) -> datetime | None:
    """When the store received a manifest. `None` if it has none by that name."""
    import obstore

    try:
        return obstore.head(store, manifest.name)["last_modified"]
    except FileNotFoundError:
        return None
    except Exception as error:
        raise CatalogError(f"cannot read {manifest.name}: {first_words(error)}") from error


def _read(store: ObjectStore, manifest: ManifestId) -> Manifest | Unusable:
    import obstore

    try:
        got = obstore.get(store, manifest.name)
        n_bytes = got.meta["size"]
        if n_bytes > MANIFEST_BYTES_MAX:
            return Unusable(f"got a manifest of {n_bytes} bytes, want at most {MANIFEST_BYTES_MAX}")
        return Manifest(manifest, bytes(got.bytes()))
    except FileNotFoundError:
        return Unusable("the manifest is missing, and one after it is there")
    except Exception as error:
        raise CatalogError(f"cannot read {manifest.name}: {first_words(error)}") from error


def read_all(
    store: ObjectStore, wanted: Sequence[ManifestId], threads: Executor
) -> list[Manifest | Unusable]:
    """Reads manifests in parallel, in the order given."""
    return list(threads.map(lambda manifest: _read(store, manifest), wanted))


def delete_markers(store: ObjectStore, markers: Sequence[str]) -> None:
    """Deletes markers. One that is gone already is no error: another committer was faster."""
    import obstore

    for at in range(0, len(markers), DELETE_MAX):
        some: Any = list(markers[at : at + DELETE_MAX])
        try:
            try:
                obstore.delete(store, some)
            except FileNotFoundError:
                # A directory says so, and stops at the first one.
                for marker in some:
                    try:
                        obstore.delete(store, marker)
                    except FileNotFoundError:
                        pass
        except Exception as error:
            raise CatalogError(f"cannot delete markers below inbox/: {first_words(error)}") from error
