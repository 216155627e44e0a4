"""What the worker and its engine process say to each other.

Small typed messages over a pipe, msgpack with a length before it. Files never travel here: they go through the
spool, and messages carry their names and digests. Nothing in this module imports torch.
"""

from typing import Any, Final, Literal

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="say", tag=True, omit_defaults=True):
    """Base of all messages; `tag` is the class's name."""


# To the engine process ------------------------------------------------------------------------------------------


class ReferenceFile(msgspec.Struct, frozen=True):
    """A picture to hold to: an upright RGB PNG in the job's spool folder. `role` is single, start or end."""

    role: str
    name: str
    digest: str


class Generate(Message, frozen=True):
    """Make the assets of one job. `spool` is an absolute folder; files are named `asset_{index}.png` or `.mp4`.

    `done` lists the asset indexes that are already safe in the spool and are not made again. `width` and `height`
    are the resolved size in pixels before a model's render scale. `seed` is of image 0; image i uses
    (seed + i) mod 2**63. `job_type` chooses the family ("sdxl_*" or WAN's).

    `reference_strength` is 0.1 to 1.0 and grows with closeness to the references; `reference_type` is style,
    composition or character (SDXL). `reference_fit` brings a reference to the size that is drawn: letterbox or crop.
    """

    request_id: str
    job_id: str
    job_type: str
    model: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    num_images: int
    frames: int
    spool: str
    done: list[int] = []
    solver: str | None = None
    shift: float | None = None
    references: list[ReferenceFile] = []
    reference_strength: float = 0.5
    reference_type: str = "style"
    reference_fit: Literal["letterbox", "crop"] = "crop"
    embed_prompt: bool = True
    checkpoint_seconds: float | None = None
    resume_from: str | None = None


class Enhance(Message, frozen=True):
    """Enhance one prompt, reproducibly by `seed`."""

    request_id: str
    job_id: str
    prompt: str
    seed: int
    max_tokens: int = 160
    seconds: float = 60.0


class Cancel(Message, frozen=True):
    """Stop that request at its next step. Answered by `Failed` with error_class "cancelled".

    With `keep` a checkpoint is kept after that step first, if the request wants any, whatever their interval; the
    `Failed` then has error_type `PAUSED`. What is past its last step goes on to its end.
    """

    request_id: str
    keep: bool = False


class Shutdown(Message, frozen=True):
    """End after the current request; a second one, or the end of the pipe, ends at once."""


# From the engine process ----------------------------------------------------------------------------------------


class Ready(Message, frozen=True):
    """The process stands: what it runs on and with."""

    pid: int
    engine: str
    device: str
    device_name: str
    threads: int
    versions: dict[str, str]
    models: dict[str, str]
    families: list[str]
    can_enhance: bool = False


class Started(Message, frozen=True):
    """The device has taken that request up."""

    request_id: str


class Loaded(Message, frozen=True):
    """A model was loaded for that request."""

    request_id: str
    model: str
    seconds: float
    bytes: int
    digest: str


class Moved(Message, frozen=True):
    """Parts of a model changed their place: to the "device", to the "host"'s memory, or they were "released"."""

    request_id: str
    model: str
    parts: list[str]
    to: Literal["device", "host", "released"]
    seconds: float
    bytes: int


class Reduced(Message, frozen=True):
    """That request goes on with less than was asked: what, and why."""

    request_id: str
    what: str
    why: str


class Progress(Message, frozen=True):
    """Denoising step `step` of `of` (1-based) is done. Also the sign of life."""

    request_id: str
    step: int
    of: int
    seconds: float


class Alive(Message, frozen=True):
    """A sign of life where no step ends: loading, decoding, encoding. `doing` is for people."""

    request_id: str | None = None
    doing: str = ""


class CheckpointWritten(Message, frozen=True):
    """Denoising is safe up to `step`; `name` is in the job's spool folder."""

    request_id: str
    step: int
    of: int
    name: str
    digest: str
    device_seconds: float


class CheckpointDiscarded(Message, frozen=True):
    """The checkpoint that was to be gone on from is of no use, and why: denoising begins anew."""

    request_id: str
    name: str
    why: str


class AssetWritten(Message, frozen=True):
    """One asset is in the spool: written under a temporary name, fsynced, renamed."""

    request_id: str
    index: int
    seed: int
    name: str
    digest: str
    bytes: int
    width: int
    height: int
    frames: int
    seconds: float
    content_type: str


class Generated(Message, frozen=True):
    """All assets are written. `memory` in GiB: `vram_used_gb`, `vram_total_gb` on CUDA; `peak_rss_gb` always.

    `batches` are the sizes in which the images were drawn. `reference_way` says how references were used, such as
    "img2img" or "vace"; None without one.
    """

    request_id: str
    device_seconds: float
    engine: str
    model_digest: str
    memory: dict[str, float]
    versions: dict[str, str]
    threads: int
    batches: list[int]
    render_scale: str | None = None
    reference_way: str | None = None


class Enhanced(Message, frozen=True):
    """The enhancer's text, judged and cleaned; or none, and why."""

    request_id: str
    text: str | None
    seconds: float
    tokens: int | None = None
    model: str | None = None
    reason: str | None = None


class Failed(Message, frozen=True):
    """That request failed; the engine itself goes on.

    `error_class` is one of: device_memory, permanent, misconfiguration, transient, cancelled. `budget` is how often
    this kind of error may be met, where that is less than its class allows.
    """

    request_id: str
    error_class: str
    error_type: str
    message: str
    traceback: str | None = None
    budget: int | None = None


ToEngine = Generate | Enhance | Cancel | Shutdown
FromEngine = (
    Ready
    | Started
    | Loaded
    | Moved
    | Reduced
    | Progress
    | Alive
    | CheckpointWritten
    | CheckpointDiscarded
    | AssetWritten
    | Generated
    | Enhanced
    | Failed
)

PAUSED: Final = "Paused"
"""The error_type of a request that was stopped to go on elsewhere."""

MAX_MESSAGE: Final = 8 * 1024 * 1024
"""Bytes. A longer one is a broken peer, not a message."""

_encoder = msgspec.msgpack.Encoder()
to_engine: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(ToEngine)
from_engine: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(FromEngine)


def frame(message: Message) -> bytes:
    """Encode one message with its length (4 bytes, big-endian) before it."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body
