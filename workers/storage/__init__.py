"""Where assets go: one implementation of `workers.ports.Bucket` a module, chosen by a URL."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from workers.ports import Bucket
from workers.storage.keys import asset_key
from workers.storage.local import LocalBucket

ALLOWED: Final = "file:///absolute/folder, supabase: or s3://BUCKET[/PREFIX]"

_S3: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)*)/?", re.ASCII)


@runtime_checkable
class RemoteBucket(Bucket, Protocol):
    """A storage elsewhere: it can be asked beforehand whether an upload has a chance."""

    def missing(self, buckets: Sequence[str], *, seconds: float) -> list[str]:
        """Which of these job buckets are not there. Raises like `put`, and changes nothing."""


def open_storage(url: str, *, supabase_url: str | None = None, supabase_key: str | None = None) -> Bucket:
    """Open the storage that `url` names. Raises ValueError with the allowed forms. Nothing is asked yet.

    Only the scheme of a refused URL is repeated: the rest may hold a password.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "file":
            return LocalBucket(_folder(url))
        case "supabase":
            if url != "supabase:":
                raise ValueError("storage URL: supabase: takes nothing behind it; SUPABASE_URL names the project")
            if not supabase_url or not supabase_key:
                raise ValueError("storage URL: supabase: needs SUPABASE_URL and SUPABASE_SERVICE_KEY")
            from workers.storage.supabase import SupabaseBucket

            return SupabaseBucket(supabase_url, supabase_key)
        case "s3":
            bucket, prefix = split_s3(url)
            try:
                from workers.storage.s3 import S3Bucket  # boto3 takes a third of a second, and is an extra
            except ImportError:
                raise ValueError("storage URL: s3:// needs boto3: pip install 'ourvidz[s3]'") from None
            return S3Bucket(bucket, prefix)
    raise ValueError(f"storage URL: allowed is {ALLOWED}, got the scheme {parts.scheme!r}")


def split_s3(url: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://BUCKET[/PREFIX]`. Raises ValueError, without repeating the URL."""
    found = _S3.fullmatch(url)
    if found is None:
        raise ValueError("storage URL: allowed is s3://BUCKET[/PREFIX] in plain letters, digits, dots, - and _")
    return found[1], found[2].strip("/")


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    folder = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not folder.startswith("/") or "\0" in folder:
        raise ValueError("storage URL: allowed is file:///absolute/folder (three slashes), got file: in another form")
    if parts.query or parts.fragment:
        raise ValueError("storage URL: file:///absolute/folder takes no ? and no #; write them as %3F and %23")
    return Path(folder)


__all__ = ["LocalBucket", "RemoteBucket", "asset_key", "open_storage", "split_s3"]
