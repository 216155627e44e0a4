"""Asking an engine for pictures in a line, and looking at what came."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from workers.engine_process import EngineProcess
from workers.engines.messages import AssetWritten, Failed, FromEngine, Generate, Generated, ReferenceFile
from workers.spool import sha256

_ids = itertools.count(1)


def request(spool: Path, **changes: Any) -> Generate:
    """A request for one 128-pixel picture of a heron in 6 steps; `changes` are fields of Generate.

    `references` may be pictures by their roles, which are then put into the request's folder.
    """
    name = f"request-{next(_ids)}"
    folder = spool / name
    folder.mkdir()
    asked: dict[str, Any] = {
        "request_id": name,
        "job_id": name,
        "job_type": "sdxl_image_fast",
        "model": "lustify_sdxl",
        "prompt": "a heron at dawn over a misty lake",
        "negative_prompt": "",
        "width": 1024,
        "height": 1024,
        "steps": 6,
        "guidance_scale": 6.0,
        "seed": 7,
        "num_images": 1,
        "frames": 1,
        "spool": str(folder),
    }
    if isinstance(references := changes.get("references"), dict):
        changes["references"] = [put(folder, role, picture) for role, picture in references.items()]
    return Generate(**{**asked, **changes})


def put(folder: Path, role: str, picture: Image.Image) -> ReferenceFile:
    """Write a reference as the worker does."""
    path = folder / f"reference_{role}.png"
    picture.save(path)
    return ReferenceFile(role=role, name=path.name, digest=sha256(path.read_bytes()))


@dataclass
class Answer:
    """All messages of one request."""

    request: Generate
    messages: list[FromEngine]

    @property
    def assets(self) -> list[AssetWritten]:
        return [message for message in self.messages if isinstance(message, AssetWritten)]

    @property
    def generated(self) -> Generated:
        last = self.messages[-1]
        assert isinstance(last, Generated), last
        return last

    @property
    def failed(self) -> Failed:
        last = self.messages[-1]
        assert isinstance(last, Failed), last
        return last

    @property
    def files(self) -> list[Path]:
        return [Path(self.request.spool) / asset.name for asset in self.assets]

    def bytes(self) -> list[bytes]:
        return [file.read_bytes() for file in self.files]

    def pixels(self) -> list[Any]:
        """One array (height, width, 3) of uint8 per picture."""
        return [numpy.asarray(Image.open(file)) for file in self.files]


@dataclass
class Studio:
    """An engine process and a spool."""

    engine: EngineProcess
    spool: Path

    def begin(self, **changes: Any) -> tuple[Generate, Iterator[FromEngine]]:
        asked = request(self.spool, **changes)
        return asked, self.engine.run(asked)

    def ask(self, **changes: Any) -> Answer:
        asked, answers = self.begin(**changes)
        return Answer(asked, list(answers))
