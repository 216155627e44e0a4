"""Where assets go: one implementation of `workers.ports.Bucket` a module, chosen by a URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from workers.ports import Bucket
from workers.storage.keys import asset_key
from workers.storage.local import LocalBucket


def open_storage(url: str) -> Bucket:
    """Open the storage that `url` names: `file:///absolute/folder`. Raises ValueError with the allowed form.

    Only the scheme of a refused URL is repeated: the rest may hold a password.
    """
    parts = urlsplit(url)
    folder = unquote(parts.path)
    if parts.scheme != "file":
        raise ValueError(f"storage URL: allowed is file:///absolute/folder, got the scheme {parts.scheme!r}")
    if parts.netloc not in ("", "localhost") or not folder.startswith("/") or "\0" in folder:
        raise ValueError("storage URL: allowed is file:///absolute/folder (three slashes), got file: in another form")
    if parts.query or parts.fragment:
        raise ValueError("storage URL: file:///absolute/folder takes no ? and no #; write them as %3F and %23")
    return LocalBucket(Path(folder))


__all__ = ["LocalBucket", "asset_key", "open_storage"]
