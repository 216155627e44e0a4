"""What can be known of weights on disk without loading them: form, size, digest. Imports no torch."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workers.spool import sha256, write_durably

MANIFEST = "ourvidz-model.json"
"""A model's own description; it is no part of its digest."""

_CONFIGURATION = (".json", ".txt", ".model", ".jinja")


def header(path: Path) -> dict[str, Any]:
    """Return a safetensors file's header: tensor name → dtype, shape, data_offsets.

    Raises ValueError with one sentence when the file is something else or was cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.lstrip()[:1] == b"<":
            raise ValueError(f"{path} is an HTML page, not weights: the download was answered by a web page")
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise ValueError(f"{path} is a pickled checkpoint under another name; only safetensors is loaded")
        if len(start) == 8 and (length := int.from_bytes(start, "little")) <= size - 8:
            try:
                found = json.loads(file.read(length))
            except ValueError as error:
                raise ValueError(f"{path} is not a safetensors file: its header is no JSON") from error
        elif len(start) == 8 and int.from_bytes(start, "little") < 1 << 30:
            raise ValueError(f"{path} is truncated: its header alone is longer than its {size} bytes")
        else:
            raise ValueError(f"{path} is not a safetensors file")
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a safetensors file: its header is no table")
    tensors = {name: entry for name, entry in found.items() if name != "__metadata__"}
    try:
        expected = 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path} is not a safetensors file: its header tells of no tensors") from error
    if size < expected:
        raise ValueError(f"{path} is truncated: {size} bytes of {expected}")
    return tensors


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a folder, sorted; a file is its own only one."""
    return sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]


def size_of(path: Path, files: Iterable[Path] | None = None) -> int:
    """Bytes of the weights; `files` are those that are not `weight_files`."""
    return sum(file.stat().st_size for file in (weight_files(path) if files is None else files))


class DigestCache:
    """Digests of files, kept by (path, size, modification time), since hashing 7 GB takes half a minute.

    Lost or broken, the cache is rebuilt; two processes that write at once lose at most each other's new entries.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: dict[str, str] = {}
        if file is not None and file.is_file():
            try:
                found = json.loads(file.read_bytes())
            except ValueError:
                found = None  # cut off or not ours: computed again below
            if isinstance(found, dict):
                self._known = {str(key): str(value) for key, value in found.items()}

    def _key(self, path: Path) -> str:
        stat = path.stat()
        return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"

    def known(self, files: Iterable[Path]) -> bool:
        """Whether all of them can be told without reading them."""
        return all(self._key(file) in self._known for file in files)

    def file(self, path: Path) -> str:
        """sha256 of one file, computed at most once."""
        key = self._key(path)
        if key not in self._known:
            with path.open("rb") as stream:
                self._known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_durably(self._file, json.dumps(self._known, indent=1, sort_keys=True).encode())
        return self._known[key]


def digested_files(path: Path) -> list[Path]:
    """What a model's digest is of: a single file itself; of a folder its weights and configuration."""
    if not path.is_dir():
        return [path]
    return sorted({*weight_files(path), *configuration_files(path)})


def configuration_files(path: Path) -> list[Path]:
    """What a folder holds besides weights that changes what is drawn; its manifest is no part of it."""
    return [file for file in path.rglob("*") if file.suffix in _CONFIGURATION and file.name != MANIFEST]


def digest_of(path: Path, cache: DigestCache, files: Iterable[Path] | None = None) -> str:
    """A single file's sha256; a folder's is the sha256 of its list of `sha256  name` lines.

    `files` are what it is of, where that is not `digested_files`.
    """
    if not path.is_dir():
        return cache.file(path)
    listed = digested_files(path) if files is None else files
    lines = [f"{cache.file(file)}  {file.relative_to(path).as_posix()}\n" for file in listed]
    return sha256("".join(lines).encode())
