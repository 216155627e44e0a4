"""The doors through which lanes reach the world. Tests put fakes of these, and of nothing else, in their place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from workers.engines.messages import Enhance, FromEngine, Generate, Ready
from workers.errors import StageEnds
from workers.generations import Generation


class Clock(Protocol):
    """Time. The database's where it has one of its own; always aware and in UTC."""

    def now(self) -> datetime:
        """The time that goes into events."""

    def monotonic(self) -> float:
        """Seconds that never go back, for limits and durations."""


class Engine(Protocol):
    """The engine process as a lane sees it. One a device."""

    def ready(self) -> Ready:
        """What runs there. Waits until it does; raises `EngineDied` when it cannot start."""

    def run(self, request: Generate | Enhance) -> Iterator[FromEngine]:
        """Hand over one request and yield what the engine says of it, the last being Generated, Enhanced or Failed.

        Requests of several threads queue up in the engine; `Started` tells when the device took this one up.
        Raises `EngineDied` (exit code or signal, hung, memory) when the process is lost before the answer was
        complete; the next call finds a new process.
        """

    def cancel(self, request_id: str, *, keep: bool = False) -> None:
        """Stop that request at its next step, or at once where it waits. Unknown ids are ignored.

        With `keep` a checkpoint of that step is kept first, and the request's last word says that it was paused.
        """


class Bucket(Protocol):
    """Storage of assets. Keys are `{user_id}/{job_id}_{index}.{extension}` and are built, never taken from a payload.

    Raises `TryAgain` (transient), `Misconfigured` (credentials, missing bucket, full disk) or `GiveUp`.
    """

    def put(self, bucket: str, key: str, data: bytes, *, content_type: str, seconds: float) -> None:
        """Store `data` under `key`. A second time is a success."""

    def get(self, bucket: str, key: str, *, most: int, seconds: float) -> bytes | None:
        """The first `most` bytes of what is stored there, or None where nothing is. Changes nothing."""

    def remove(self, bucket: str, key: str, *, seconds: float) -> None:
        """Remove what is stored there, all versions of it. Where nothing is, or nothing any more, is a success."""

    def url(self, bucket: str, key: str, *, how: Literal["public", "signed"], holds: int, seconds: float) -> str:
        """Where anybody gets what is stored there; a signed URL `holds` for so many seconds and is a secret till then.

        Changes nothing, and takes at most `seconds`. A public URL leads somewhere only if the bucket is public.
        """


class Answer(Protocol):
    """What became of one callback request."""

    @property
    def delivered(self) -> bool:
        """200 and not `"success": false`."""

    @property
    def http_code(self) -> int | None:
        """None when no answer came."""

    @property
    def ms(self) -> float:
        """From the first byte sent to the verdict."""

    @property
    def head(self) -> str | None:
        """The first 500 characters of the answer, printable."""

    @property
    def error(self) -> str | None:
        """Why no answer came; never a secret."""

    @property
    def retry_after(self) -> float | None:
        """Seconds, when the receiver said so."""


class Receiver(Protocol):
    """The receiver of callbacks."""

    def post(self, callback_id: str, body: bytes, *, seconds: float) -> Answer:
        """Send one signed request, follow no redirect, and say what came of it. Never raises for the network."""


@dataclass(frozen=True, kw_only=True)
class ReferencePicture:
    """A reference as it may be drawn with: `png` is an upright RGB picture of `width` x `height`, and nothing else.

    `host` is where the file came from; `source_bytes` and `source_digest` are of that file. `notes` say what was left
    behind, each in a few words.
    """

    png: bytes
    width: int
    height: int
    host: str
    source_bytes: int
    source_digest: str
    notes: tuple[str, ...] = ()


class References(Protocol):
    """The places where strangers' pictures are."""

    def fetch(self, urls: Sequence[str], *, seconds: float) -> list[ReferencePicture | StageEnds]:
        """Fetch them all at once, each within `seconds`; the answers are in the order of `urls`.

        What stands in place of a picture says why there is none: `GiveUp`, `TryAgain` or `Misconfigured`, in one
        sentence that names the host and nothing else of the URL.
        """


class Metrics(Protocol):
    """Whoever counts generations."""

    def generation(self, told: Generation) -> None:
        """Take note of one that ended. Never waits and never raises: what cannot be told is dropped."""


class EngineDied(Exception):
    """The engine process is gone. `started` tells whether this request was on the device, `blameless` whether the
    process was ended for the sake of another one.
    """

    def __init__(self, reason: str, detail: str, *, started: bool, blameless: bool = False) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason  # "engine crashed", "engine hung", "engine out of memory", "engine stopped"
        self.detail = detail
        self.started = started
        self.blameless = blameless
