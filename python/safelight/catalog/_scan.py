"""The table as a LazyFrame of Polars."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from ._errors import needs
from ._location import Location

if TYPE_CHECKING:
    import polars

__all__ = ["PLACE", "scan"]

PLACE = ("box", "run", "key", "step", "index")
"""The columns that name an image. Its rows with the same values are its versions."""


def scan(
    url: str,
    *,
    latest: bool = False,
    since: date | str | None = None,
    endpoint: str | None = None,
    region: str | None = None,
) -> polars.LazyFrame:
    """Returns the rows of a table, read when they are collected.

    Each row is one version of an item. With `latest` there is only the latest version of each, and none of
    those that are gone. A dump that was rejected as a whole is there until it has become an item.

    `since` is a day of the catalogue (UTC; a date, or text `YYYY-MM-DD`). Files of earlier days are not
    opened. A day is that of the commit, so an item is never on a day before it was made. With `latest`, it is
    the latest version since then, and an image that has gone since is left out.

    `endpoint` and `region` are those of an S3 service; else the environment's. Keys are the environment's
    (`AWS_ACCESS_KEY_ID`, …).

    Raises `safelight.catalog.NotInstalledError` if Polars or deltalake is missing, and `UsageError` for a URL
    of an unknown scheme.
    """
    try:
        import polars
    except ImportError:
        raise needs("polars", "safelight[catalog]' 'polars") from None
    try:
        import deltalake  # noqa: F401  (Polars asks for it only later)
    except ImportError:
        raise needs("deltalake") from None
    location = Location.parse(url, endpoint, region)
    frame = polars.scan_delta(location.delta_url, storage_options=dict(location.options) or None)
    if since is not None:
        frame = frame.filter(
            polars.col("day") >= (date.fromisoformat(since) if isinstance(since, str) else since)
        )
    if latest:
        frame = _latest(frame, polars)
    return frame


def _latest(frame: Any, polars: Any) -> Any:
    # As the view `latest` of docs/fleet.md. A dump that was rejected as a whole has no index: its row counts until the
    # dump has become an item.
    seq, has_place = polars.col("seq"), polars.col("index").is_not_null()
    last_of_source = seq.filter(has_place).max().over("box", "run", "key", "step", "source")
    is_latest = (
        polars.when(has_place)
        .then(seq == seq.max().over(PLACE))
        .otherwise((seq > last_of_source).fill_null(True))
    )
    return frame.filter(is_latest).filter(polars.col("state") != "gone")
