"""Fakes of our own ports, and of nothing else.

Every effect of a fake goes through one hook, `effect(name)`: called with `name:before`, then the effect happens, then
`name:after`. A test that raises there is a machine that dies there; names are `recorder.record`, `recorder.renew`,
`spool.write`, `spool.remove`, `bucket.put`, `receiver.post`, `references.fetch`, `engine.take`, `engine.step`,
`engine.checkpoint`, `engine.asset` and `engine.cancel`.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from PIL import Image

from workers.engines.messages import (
    AssetWritten,
    CheckpointDiscarded,
    CheckpointWritten,
    Enhance,
    Enhanced,
    FromEngine,
    Generate,
    Generated,
    Loaded,
    Progress,
    Ready,
    Started,
)
from workers.errors import StageEnds
from workers.ports import ReferencePicture
from workers.spool import sha256

Effect = Callable[[str], None]
Script = Callable[[Generate | Enhance], Iterable[FromEngine]]


class Crash(BaseException):
    """The machine dies. A BaseException, so that no `except Exception` can save it."""


def nothing(_: str) -> None:
    """The hook of those who let every effect happen."""


@contextmanager
def around(effect: Effect, name: str) -> Iterator[None]:
    """One effect between its two calls of the hook."""
    effect(f"{name}:before")
    yield
    effect(f"{name}:after")


class FakeClock:
    """A clock that only `advance` moves, and whose wall can be set."""

    def __init__(self, start: datetime = datetime(2025, 7, 16, 12, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._passed = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def advance(self, seconds: float) -> None:
        self._passed += seconds

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock forward, or back; no duration is longer or shorter for it."""
        self._start += timedelta(seconds=seconds)


class MemorySpool:
    """A spool in a dict. What is in it survives a Crash, as a disk would."""

    def __init__(self, effect: Effect = nothing) -> None:
        self.files: dict[tuple[str, str], bytes] = {}
        self._effect = effect

    def folder(self, job_id: str) -> str:
        return f"/memory/{job_id}"

    def write(self, job_id: str, name: str, data: bytes) -> str:
        with around(self._effect, "spool.write"):
            self.files[job_id, name] = data
        return sha256(data)

    def read(self, job_id: str, name: str, digest: str) -> bytes:
        data = self.files.get((job_id, name))
        if data is None or sha256(data) != digest:
            raise FileNotFoundError(f"{job_id}/{name}")
        return data

    def discard(self, job_id: str, name: str) -> None:
        with around(self._effect, "spool.discard"):
            self.files.pop((job_id, name), None)

    def remove(self, job_id: str) -> None:
        with around(self._effect, "spool.remove"):
            for key in [key for key in self.files if key[0] == job_id]:
                del self.files[key]


class MemoryBucket:
    """A storage in a dict; `puts` tells every put that was made, repeated ones too."""

    def __init__(self, effect: Effect = nothing) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.puts: list[str] = []
        self.urls = 0
        self.failing: list[Exception] = []
        self._effect = effect

    def put(self, bucket: str, key: str, data: bytes, *, content_type: str, seconds: float) -> None:
        with around(self._effect, "bucket.put"):
            if self.failing:
                raise self.failing.pop(0)
            self.puts.append(key)
            self.objects[bucket, key] = data

    def get(self, bucket: str, key: str, *, most: int, seconds: float) -> bytes | None:
        if self.failing:
            raise self.failing.pop(0)
        data = self.objects.get((bucket, key))
        return None if data is None else data[:most]

    def remove(self, bucket: str, key: str, *, seconds: float) -> None:
        with around(self._effect, "bucket.remove"):
            if self.failing:
                raise self.failing.pop(0)
            self.objects.pop((bucket, key), None)

    def url(self, bucket: str, key: str, *, how: Literal["public", "signed"], holds: int, seconds: float) -> str:
        """As the real ones, a signed one differs each time."""
        if self.failing:
            raise self.failing.pop(0)
        self.urls += 1
        return f"https://storage/{how}/{bucket}/{key}" + (f"?token={self.urls}&for={holds}" if how == "signed" else "")

    def keys(self) -> list[str]:
        return sorted(key for _, key in self.objects)


@dataclass(frozen=True, kw_only=True)
class ScriptedAnswer:
    """An answer of a receiver. `accepted` False: it threw the callback away."""

    http_code: int | None = 200
    delivered: bool = True
    ms: float = 1.0
    head: str | None = '{"success": true}'
    error: str | None = None
    retry_after: float | None = None
    accepted: bool = True


def refused(code: int | None, *, retry_after: float | None = None, accepted: bool = False) -> ScriptedAnswer:
    """An answer that is not a delivery; None is no answer at all."""
    return ScriptedAnswer(
        http_code=code,
        delivered=False,
        head=None if code is None else "no",
        error="connection refused" if code is None else None,
        retry_after=retry_after,
        accepted=accepted,
    )


@dataclass(frozen=True)
class Posted:
    """One callback request as it arrived."""

    id: str
    body: bytes
    seconds: float

    @property
    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = msgspec.json.decode(self.body)
        return told


class ScriptedReceiver:
    """Gives `answers` one after the other, then delivers for ever."""

    def __init__(self, answers: Iterable[ScriptedAnswer] = (), effect: Effect = nothing) -> None:
        self.answers = list(answers)
        self.posts: list[Posted] = []
        self.accepted: list[Posted] = []
        self._effect = effect

    def post(self, callback_id: str, body: bytes, *, seconds: float) -> ScriptedAnswer:
        posted = Posted(callback_id, body, seconds)
        with around(self._effect, "receiver.post"):
            answer = self.answers.pop(0) if self.answers else ScriptedAnswer()
            self.posts.append(posted)
            if answer.accepted:
                self.accepted.append(posted)
        return answer


class FakeReferences:
    """A web on which each URL is a picture of its own. `ends` are met at a URL one after the other, then its picture.

    `versions` says which picture is at a URL by now; `asked` holds the URLs of each call.
    """

    def __init__(self, effect: Effect = nothing) -> None:
        self.ends: dict[str, list[StageEnds]] = {}
        self.versions: dict[str, int] = {}
        self.asked: list[list[str]] = []
        self.seconds: list[float] = []
        self._effect = effect

    def fetch(self, urls: Sequence[str], *, seconds: float) -> list[ReferencePicture | StageEnds]:
        with around(self._effect, "references.fetch"):
            self.asked.append(list(urls))
            self.seconds.append(seconds)
            return [self._one(url) for url in urls]

    def _one(self, url: str) -> ReferencePicture | StageEnds:
        ends = self.ends.get(url)
        if ends:
            return ends.pop(0)
        source = f"{url} {self.versions.get(url, 1)}".encode()
        file = io.BytesIO()
        Image.new("RGB", (6, 4), tuple(hashlib.sha256(source).digest()[:3])).save(file, "PNG")
        return ReferencePicture(
            png=file.getvalue(),
            width=6,
            height=4,
            host="host",
            source_bytes=len(source),
            source_digest=sha256(source),
            notes=("transparency became white",),
        )


def ready(engine: str, *, can_enhance: bool = True) -> Ready:
    """What an engine without a process of its own says of itself."""
    return Ready(
        pid=1,
        engine=engine,
        device="cpu",
        device_name="none",
        threads=1,
        versions={engine: "1"},
        models={},
        families=["sdxl", "wan"],
        can_enhance=can_enhance,
    )


class FakeEngine:
    """An engine whose pictures follow from every step before them, so that a wrong resume shows in the bytes.

    `script` replaces all that it says. `steps` counts the denoising steps that were really done.
    """

    def __init__(
        self,
        spool: MemorySpool,
        effect: Effect = nothing,
        *,
        script: Script | None = None,
        can_enhance: bool = True,
        checkpoint_every: int = 2,
        memory: dict[str, float] | None = None,
    ) -> None:
        self.script = script
        self.requests: list[Generate | Enhance] = []
        self.cancelled: list[str] = []
        self.steps = 0
        self.drawn: list[int] = []
        self.heeds_references = True
        self.discards = False
        self._spool = spool
        self._effect = effect
        self._can_enhance = can_enhance
        self._checkpoint_every = checkpoint_every
        self._memory = memory or {"peak_rss_gb": 0.5}
        self._loaded: set[str] = set()

    def ready(self) -> Ready:
        return ready("fake", can_enhance=self._can_enhance)

    def run(self, request: Generate | Enhance) -> Iterator[FromEngine]:
        with around(self._effect, "engine.take"):
            self.requests.append(request)
        if self.script is not None:
            yield from self.script(request)
        elif isinstance(request, Enhance):
            yield Started(request_id=request.request_id)
            text = f"{request.prompt}, in soft light"
            yield Enhanced(request_id=request.request_id, text=text, seconds=0.5, tokens=7, model="fake")
        else:
            yield from self._draw(request)

    def cancel(self, request_id: str, *, keep: bool = False) -> None:
        with around(self._effect, "engine.cancel"):
            self.cancelled.append(request_id)

    def restart(self) -> None:
        """A new process: nothing is loaded."""
        self._loaded.clear()

    def _draw(self, request: Generate) -> Iterator[FromEngine]:
        yield Started(request_id=request.request_id)
        if request.model not in self._loaded:
            self._loaded.add(request.model)
            yield Loaded(request_id=request.request_id, model=request.model, seconds=1.0, bytes=10, digest="d" * 64)
        due = [index for index in range(request.num_images) if index not in request.done]
        done_before = self.steps
        state = b""
        if due:
            for said in self._denoise(request):
                if isinstance(said, bytes):
                    state = said
                else:
                    yield said
        for index in due:
            yield self._asset(request, index, state)
        yield Generated(
            request_id=request.request_id,
            device_seconds=float(self.steps - done_before),
            engine="fake",
            model_digest="d" * 64,
            memory=self._memory,
            versions={"fake": "1"},
            threads=1,
            batches=[request.num_images],
            render_scale="1/8",
            reference_way="fake" if request.references and self.heeds_references else None,
        )

    def _denoise(self, request: Generate) -> Iterator[FromEngine | bytes]:
        """Messages, and at last the state: one second of device time a step."""
        asked = (request.prompt, request.negative_prompt, request.seed, request.steps, request.references)
        state, first = repr(asked).encode(), 1
        for reference in request.references:
            self._spool.read(request.job_id, reference.name, reference.digest)
        if request.resume_from is not None and self.discards:
            yield CheckpointDiscarded(request_id=request.request_id, name=request.resume_from, why="another model")
        elif request.resume_from is not None:
            kept, _, state = self._spool.files[request.job_id, request.resume_from].partition(b" ")
            first = int(kept) + 1
        for step in range(first, request.steps + 1):
            with around(self._effect, "engine.step"):
                self.steps += 1
                state = hashlib.sha256(state).digest()
            yield Progress(request_id=request.request_id, step=step, of=request.steps, seconds=1.0)
            if step % self._checkpoint_every == 0 and step < request.steps:
                name = f"checkpoint_{step}"
                with around(self._effect, "engine.checkpoint"):
                    digest = self._spool.write(request.job_id, name, b"%d %s" % (step, state))
                yield CheckpointWritten(
                    request_id=request.request_id,
                    step=step,
                    of=request.steps,
                    name=name,
                    digest=digest,
                    device_seconds=float(step - first + 1),
                )
        yield state

    def _asset(self, request: Generate, index: int, state: bytes) -> AssetWritten:
        video = request.frames > 1
        name = f"asset_{index}.{'mp4' if video else 'png'}"
        data = hashlib.sha256(state + b"%d" % index).digest()
        with around(self._effect, "engine.asset"):
            self.drawn.append(index)
            digest = self._spool.write(request.job_id, name, data)
        return AssetWritten(
            request_id=request.request_id,
            index=index,
            seed=(request.seed + index) % 2**63,
            name=name,
            digest=digest,
            bytes=len(data),
            width=request.width // 8,
            height=request.height // 8,
            frames=request.frames,
            seconds=0.01,
            content_type="video/mp4" if video else "image/png",
        )
