"""One job as a ZIP file: its history, what it asked for and what was made, for somebody elsewhere."""

import errno
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files as resources
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from ourvidz._version import __version__
from statemachine.job import Asset, Stored
from statemachine.store.append import event_row
from workers.errors import StageEnds
from workers.ports import Bucket
from workers.spool import sha256

SECONDS: Final = 60.0
"""For one file of the storage."""
WORDS: Final[dict[str, Any]] = {"prompt": None, "negative_prompt": None, "enhanced_prompt": None, "references": []}
"""What of a job's document a person wrote, as it is where that was erased."""

_README: Final = """\
Job {job_id}, exported at {now} by ourvidz {version}.

job.json        the job's story as `ourvidz jobs inspect --json` tells it: documented in docs/inspecting.md
events.jsonl    its history, one event a line, the oldest first: documented in docs/events.md
verify.py       checks the history and the files without the service: python verify.py
{contents}
{personal}
{missing}
"""
_PERSONAL: Final = """\
payload         what was asked for, byte by byte
content.json    the prompts and the references' URLs that were made of it
assets/         what was made, as it lies in storage
"""


class Missing(msgspec.Struct, frozen=True):
    """A file that is not in the export, and why."""

    key: str
    why: str


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the file. `personal` is False where all that a person wrote, or was made of it, was left out."""

    file: str
    events: int
    assets: list[str]
    missing: list[Missing]
    personal: bool


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What the database knows of a job: its document, its events, and what is personal, where it is wanted."""

    document: dict[str, Any]
    history: list[Stored]
    assets: Sequence[Asset]
    raw: bytes | None = None
    content: str | None = None


def export(story: Story, bucket: Bucket | None, target: Path) -> Exported:
    """Write it under another name and then rename it: `target` is whole or not there, and nobody else may read it.

    Without a `bucket` nothing personal goes into it. A file that storage does not have, or not as it was uploaded, is
    named among what is missing. Raises FileExistsError where there is one of that name.
    """
    if target.exists():
        raise FileExistsError(errno.EEXIST, "it is there already, and is not replaced", str(target))
    personal = bucket is not None
    document = story.document if personal else {**story.document, **WORDS}
    with _whole(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("job.json", json.dumps(document, ensure_ascii=False, indent=2))
        with archive.open("events.jsonl", "w") as events:
            for row in story.history:
                events.write(_line(row))
        archive.writestr("verify.py", resources("ourvidz").joinpath("export_check.py").read_bytes())
        assets, missing = ([], []) if bucket is None else _add_personal(archive, story, bucket)
        archive.writestr("README.txt", _readme(story, personal, missing))
    return Exported(file=str(target), events=len(story.history), assets=assets, missing=missing, personal=personal)


def _add_personal(archive: zipfile.ZipFile, story: Story, bucket: Bucket) -> tuple[list[str], list[Missing]]:
    """Payload, content and files, one file in memory at a time. Returns the files' names, and what is missing."""
    if story.raw is not None:
        archive.writestr("payload", story.raw)
    if story.content is not None:
        archive.writestr("content.json", story.content)
    names: list[str] = []
    missing: list[Missing] = []
    uploaded = {(asset.bucket, asset.key): asset for asset in story.assets}  # of two runs, the later one's stands there
    for (folder, key), asset in uploaded.items():
        if folder is None or key is None:
            continue
        found = _fetch(bucket, folder, key, asset)
        if isinstance(found, str):
            missing.append(Missing(f"{folder}/{key}", found))
            continue
        name = f"assets/{key.rpartition('/')[2]}"
        archive.writestr(zipfile.ZipInfo(name), found)  # pictures and videos are compressed already
        names.append(name)
    return names, missing


def _fetch(bucket: Bucket, folder: str, key: str, asset: Asset) -> bytes | str:
    """The file, or why there is none."""
    try:
        data = bucket.get(folder, key, most=asset.bytes + 1, seconds=SECONDS)
    except StageEnds as ended:
        return ended.message
    if data is None:
        return "storage does not have it any more"
    return data if sha256(data) == asset.digest else "what storage has there is not the file that was uploaded"


def _line(row: Stored) -> bytes:
    """The columns that the digest covers, in their order, and the digest. `data` is the text that it covers."""
    columns = {**event_row(row), "at": row.at.isoformat(timespec="microseconds")}
    return json.dumps(columns, ensure_ascii=False).encode() + b"\n"


def _readme(story: Story, personal: bool, missing: list[Missing]) -> str:
    said = (
        "It holds personal content: give it to nobody but its owner."
        if personal
        else ("What a person wrote, and what was made of it, was left out. The ids of job and user are in it.")
    )
    lacking = "\n".join(f"missing: {one.key}: {one.why}" for one in missing)
    return _README.format(
        job_id=story.document["id"],
        now=story.document["now"],
        version=__version__,
        contents=_PERSONAL if personal else "",
        personal=said,
        missing=lacking,
    )


@contextmanager
def _whole(target: Path) -> Iterator[IO[bytes]]:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
