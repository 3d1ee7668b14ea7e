"""The address of a store in an S3 bucket, or of something below it. Imports no pyarrow."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from uscl.errors import StoreError

_KNOWN = ("endpoint_override", "scheme", "region")
"""What may follow the `?`, as in pyarrow's own addresses."""


@dataclass(frozen=True, slots=True)
class S3Root:
    """`s3://bucket/prefix`, with the service it lies at; joins as a path does."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    """host:port of a service other than Amazon's."""
    scheme: str = "https"
    region: str = ""

    @classmethod
    def parse(cls, text: str) -> S3Root:
        """Read `s3://bucket/prefix[?endpoint_override=host:port&scheme=http&region=...]`.

        What the address leaves out comes from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION and
        AWS_DEFAULT_REGION. StoreError where it is no such address, or holds a key.
        """
        parts = urlsplit(text)
        if "@" in parts.netloc:
            raise StoreError(
                f"s3://{parts.netloc.rpartition('@')[2]}...: no credentials in a store's address, it is printed and "
                "kept; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws"
            )
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]+", parts.netloc) or not text.startswith("s3://") or parts.fragment:
            raise StoreError(f"{text.partition('?')[0]}: expected s3://bucket/prefix")
        given = dict(parse_qsl(parts.query))
        unknown = sorted(set(given) - set(_KNOWN))
        if unknown:
            raise StoreError(f"s3://{parts.netloc}...: unknown {unknown[0]!r}; after the ? go {', '.join(_KNOWN)}")
        environment = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        scheme, endpoint = _service(given.get("endpoint_override") or environment, given.get("scheme", ""))
        region = given.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
        return cls(parts.netloc, unquote(parts.path).strip("/"), endpoint, scheme, region)

    @property
    def key(self) -> str:
        """`bucket/prefix`, as pyarrow wants it."""
        return f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> S3Root:
        """Without the last part."""
        return replace(self, prefix=self.prefix.rpartition("/")[0])

    @property
    def service(self) -> str:
        """Who is asked: `http://127.0.0.1:9000`, or Amazon."""
        return f"{self.scheme}://{self.endpoint}" if self.endpoint else "Amazon S3"

    @property
    def short(self) -> str:
        """Bucket and prefix only, for messages."""
        return f"s3://{self.key}"

    def __truediv__(self, name: str) -> S3Root:
        """The address of something below."""
        return replace(self, prefix="/".join(part for part in (self.prefix, name) if part))

    def __str__(self) -> str:
        """The whole address: read on another machine, it means the same."""
        told = {
            "endpoint_override": self.endpoint,
            "scheme": self.scheme if self.endpoint else "",
            "region": self.region,
        }
        query = urlencode({name: value for name, value in told.items() if value}, safe=":")
        return f"s3://{quote(self.key)}" + (f"?{query}" if query else "")


def _service(endpoint: str, scheme: str) -> tuple[str, str]:
    """Scheme and host:port of what may be written as a URL."""
    before, mark, after = endpoint.rstrip("/").rpartition("://")
    if "@" in after or "/" in after or (mark and before not in ("http", "https")):
        raise StoreError(f"S3 endpoint {after.rpartition('@')[2]}: expected http://host:port or https://host")
    return scheme or before or "https", after
