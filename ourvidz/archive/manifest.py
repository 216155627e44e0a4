"""The manifest of an archive: what is in its files, so that a file that changed is noticed."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from ourvidz.archive.errors import ArchiveDamaged

FILE: Final = "manifest.json"
FORMAT: Final = 1
PREFIX: Final = "archive-"
"""Names of complete archives begin so, and no others do: readers ask for `archive-*`."""

_PIECE: Final = 1 << 20


class TableFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an archive."""

    file: str
    rows: int
    bytes: int
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive says of itself. `schema` is the version of the tables that it was read from."""

    format: int
    name: str
    made_at: datetime
    made_by: str
    program: str
    schema: str
    jobs: int
    states: dict[str, int]
    first_finished_at: datetime
    last_finished_at: datetime
    tables: dict[str, TableFile]


def encoded(manifest: Manifest) -> bytes:
    """The bytes of the manifest's file."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"


def read(folder: Path) -> Manifest:
    """The manifest of an archive. Raises ArchiveDamaged."""
    try:
        manifest = msgspec.json.decode((folder / FILE).read_bytes(), type=Manifest)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise ArchiveDamaged(f"{folder}: its {FILE} cannot be read ({error})") from error
    if manifest.format != FORMAT:
        raise ArchiveDamaged(f"{folder}: wanted format {FORMAT}, got {manifest.format}: it was made by a later version")
    return manifest


def check(folder: Path, manifest: Manifest) -> None:
    """Compare each file with what the manifest says of it. Raises ArchiveDamaged for the first that differs."""
    for name, table in manifest.tables.items():
        path = folder / table.file
        found = digest(path) if path.exists() else None
        if found != table.digest:
            raise ArchiveDamaged(f"{path}: wanted the {name} with sha256 {table.digest}, got {found or 'no file'}")


def digest(path: Path) -> str:
    """sha256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()
