"""A place in an object store or in a directory, and the one way to open it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping
from urllib.parse import quote, unquote, urlsplit

from ._errors import CatalogError, UsageError, first_words, needs

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["SCHEMES", "Location"]

SCHEMES = ("s3", "gs", "az", "file")
# As the clients' own names, which the environment may set, too.
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


@dataclass(frozen=True)
class Location:
    """A URL, with the service that answers for it."""

    url: str
    """Without a slash at the end: `s3://media/fleet`, `file:///data/fleet`."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Settings of the client, by the names of the environment (`AWS_REGION`)."""

    @classmethod
    def parse(cls, url: str, endpoint: str | None = None, region: str | None = None) -> Location:
        """A location of the command line. The environment gives keys, and what the arguments leave open.

        Raises `UsageError` for a URL of another scheme or without a bucket.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            names = ", ".join(f"{name}://" for name in SCHEMES)
            raise UsageError(f"got the URL {url!r}, want one that begins with one of {names}")
        if parts.query or parts.fragment:
            raise UsageError(f"got the URL {url!r}, want one without '?' and '#'")
        if parts.scheme == "file" and (parts.netloc or len(parts.path) < 2):
            raise UsageError(f"got the URL {url!r}, want file:///FOLDER with an absolute path")
        if parts.scheme != "file" and not parts.netloc:
            raise UsageError(f"got the URL {url!r}, want a bucket after {parts.scheme}://")
        options = {}
        if parts.scheme == "s3":
            given = (os.environ.get(name) for name in ENDPOINT_VARIABLES)
            endpoint = endpoint or next(filter(None, given), None)
            if endpoint:
                options["AWS_ENDPOINT_URL"] = endpoint
                if endpoint.startswith("http:"):
                    options["AWS_ALLOW_HTTP"] = "true"
            region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            # Other services than Amazon's ignore the region, and the client wants one.
            if region or endpoint:
                options["AWS_REGION"] = region or "us-east-1"
        elif endpoint or region:
            raise UsageError(f"got --endpoint or --region with the URL {url!r}, want them only with s3://")
        return cls(url.rstrip("/"), options)

    @property
    def is_directory(self) -> bool:
        return self.url.startswith("file:")

    @property
    def path(self) -> str:
        """The path of a directory."""
        return unquote(urlsplit(self.url).path)

    @property
    def delta_url(self) -> str:
        """The URL as delta-rs and Polars take it: a directory's path is escaped, a bucket's is not."""
        return "file://" + quote(self.path) if self.is_directory else self.url

    def object_url(self, name: str) -> str:
        """The absolute URL of an object."""
        return f"{self.url}/{name}"

    def open(self, is_new: bool = False) -> ObjectStore:
        """A client whose names are relative to this location. A directory that `is_new` is made."""
        try:
            from obstore import store as stores
        except ImportError:
            raise needs("obstore") from None
        if self.is_directory and not is_new and not os.path.isdir(self.path):
            raise CatalogError(f"cannot open {self.url}: there is no such directory")
        try:
            if self.is_directory:
                return stores.LocalStore(self.path, mkdir=is_new)
            config: Any = {name.lower(): value for name, value in self.options.items()}
            client: Any = {"allow_http": True} if config.pop("aws_allow_http", None) else {}
            return stores.from_url(self.url, config=config or None, client_options=client or None)
        except Exception as error:
            raise CatalogError(f"cannot open {self.url}: {first_words(error)}") from error
