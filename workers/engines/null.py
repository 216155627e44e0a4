"""An engine that draws nothing real and says everything: for tests, demonstrations and load.

It speaks the whole protocol for every job type without torch. All that it writes follows from the request, so a
job that was killed and run again ends with the same bytes.
"""

import colorsys
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Final

from PIL import Image, ImageDraw

from workers.engines.faults import InvalidParameters, failed
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
)
from workers.engines.png import encode_png
from workers.models import render_size
from workers.spool import Spool, sha256

IMAGE_TYPES: Final = frozenset(
    {"sdxl_image_fast", "sdxl_image_high", "image_fast", "image_high"}
    | {"image7b_fast_enhanced", "image7b_high_enhanced"}
)
VIDEO_TYPES: Final = frozenset({"video_fast", "video_high", "video7b_fast_enhanced", "video7b_high_enhanced"})

SCALE: Final = Fraction(1, 8)
"""Its pictures are an eighth of what was asked, as those of the tiny models."""

VIDEO_HEAD: Final = b"made by the null engine: this is no video\n"

CHECKPOINT: Final = "checkpoint_{}.null"

_SEEDS: Final = 2**63


class NullEngine:
    """Answers requests one at a time; each message is yielded after what it tells of has been done.

    `step_seconds` is slept by `sleep` at each step. Every `checkpoint_every` steps a checkpoint is written, if the
    request asks for checkpoints. Prompts go into the pictures' metadata unless the engine or the request forbids it.
    Whatever the spool raises passes through: a full disk is the caller's to translate.
    """

    name = "null"
    families = ("sdxl", "wan")
    can_enhance = True

    def __init__(
        self,
        *,
        step_seconds: float = 0.0,
        checkpoint_every: int = 5,
        embed_prompt: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._step_seconds = step_seconds
        self._checkpoint_every = checkpoint_every
        self._embed_prompt = embed_prompt
        self._sleep = sleep
        self._loaded: set[str] = set()

    def run(
        self, request: Generate | Enhance, spool: Spool, keep: Callable[[], bool] = lambda: False
    ) -> Iterator[FromEngine]:
        """Yield the whole answer but Started; the last is Generated, Enhanced or Failed (for parameters).

        A step after which `keep` says so has its checkpoint, too.
        """
        if isinstance(request, Enhance):
            yield _enhanced(request)
            return
        try:
            _judge(request, spool)
        except InvalidParameters as error:
            yield failed(request.request_id, error)
            return
        digest = hashlib.sha256(f"null engine: {request.model}".encode()).hexdigest()
        if request.model not in self._loaded:
            self._loaded.add(request.model)
            yield Loaded(request_id=request.request_id, model=request.model, seconds=0.0, bytes=0, digest=digest)
        due = sorted(set(range(request.num_images)) - set(request.done))
        kept = _kept(request, spool)
        if request.resume_from is not None and kept is None:
            yield CheckpointDiscarded(
                request_id=request.request_id, name=request.resume_from, why="it is not of this very work"
            )
        steps = range((kept or 0) + 1, request.steps + 1)
        if due:
            yield from self._denoise(request, spool, steps, keep)
        for index in due:
            yield _write_asset(request, index, spool, embed_prompt=self._embed_prompt and request.embed_prompt)
        yield Generated(
            request_id=request.request_id,
            device_seconds=len(steps) * self._step_seconds if due else 0.0,
            engine=self.name,
            model_digest=digest,
            memory={"peak_rss_gb": 0.0},
            versions={"null": "1"},
            threads=1,
            batches=[request.num_images],
            render_scale=str(SCALE),
            reference_way=self.name if request.references else None,
        )

    def _denoise(self, request: Generate, spool: Spool, steps: range, keep: Callable[[], bool]) -> Iterator[FromEngine]:
        for step in steps:
            if self._step_seconds:
                self._sleep(self._step_seconds)
            yield Progress(request_id=request.request_id, step=step, of=request.steps, seconds=self._step_seconds)
            due = step % self._checkpoint_every == 0 and step < request.steps
            if request.checkpoint_seconds is None or not (due or keep()):
                continue
            name = CHECKPOINT.format(step)
            yield CheckpointWritten(
                request_id=request.request_id,
                step=step,
                of=request.steps,
                name=name,
                digest=spool.write(request.job_id, name, _identity(request, step)),
                device_seconds=(step - steps.start + 1) * self._step_seconds,
            )


def _kept(request: Generate, spool: Spool) -> int | None:
    """The step from which the checkpoint goes on; None without one, and for one of other work."""
    for step in range(1, request.steps + 1):
        if request.resume_from == CHECKPOINT.format(step):
            try:
                spool.read(request.job_id, request.resume_from, sha256(_identity(request, step)))
            except FileNotFoundError:
                return None
            return step
    return None


def _judge(request: Generate, spool: Spool) -> None:
    known = IMAGE_TYPES | VIDEO_TYPES
    if request.job_type not in known:
        raise InvalidParameters(f"job type {request.job_type!r} is unknown; known: {', '.join(sorted(known))}")
    for name in ("width", "height", "steps", "num_images", "frames"):
        if getattr(request, name) < 1:
            raise InvalidParameters(f"{name} must be at least 1, got {getattr(request, name)}")
    for reference in request.references:
        try:
            with Image.open(io.BytesIO(spool.read(request.job_id, reference.name, reference.digest))) as picture:
                picture.load()
        except OSError:  # missing, another file, or no picture
            raise InvalidParameters(f"the {reference.role} reference is not in the spool as a picture") from None


def _identity(request: Generate, index: int) -> bytes:
    """32 bytes that follow from all that would change a picture."""
    asked: tuple[object, ...] = (
        request.job_type,
        request.model,
        request.prompt,
        request.negative_prompt,
        request.width,
        request.height,
        request.steps,
        request.guidance_scale,
        (request.seed + index) % _SEEDS,
        request.num_images,
        request.frames,
        request.solver,
        request.shift,
    )
    if request.references:
        pictures = tuple((reference.role, reference.digest) for reference in request.references)
        asked += (pictures, request.reference_strength, request.reference_type, request.reference_fit)
    return hashlib.sha256(repr(asked).encode()).digest()


def _write_asset(request: Generate, index: int, spool: Spool, *, embed_prompt: bool) -> AssetWritten:
    video = request.job_type in VIDEO_TYPES
    width, height = render_size(request.width, request.height, SCALE)
    if video:
        name, content_type, data = f"asset_{index}.mp4", "video/mp4", VIDEO_HEAD + _identity(request, index)
    else:
        name, content_type = f"asset_{index}.png", "image/png"
        data = _picture(request, index, width, height, embed_prompt=embed_prompt)
    return AssetWritten(
        request_id=request.request_id,
        index=index,
        seed=(request.seed + index) % _SEEDS,
        name=name,
        digest=spool.write(request.job_id, name, data),
        bytes=len(data),
        width=width,
        height=height,
        frames=(request.frames // 4 * 4 + 1 if request.frames % 4 != 1 else request.frames) if video else 1,
        seconds=0.0,
        content_type=content_type,
    )


def _picture(request: Generate, index: int, width: int, height: int, *, embed_prompt: bool) -> bytes:
    """A gradient between two colours of the identity, with the engine's name across it."""
    identity = _identity(request, index)
    ends = [colorsys.hsv_to_rgb(identity[i] / 255, 0.5, 0.45 + identity[i + 1] / 512) for i in (0, 2)]
    gradient = Image.linear_gradient("L").resize((width, height))
    bands = [
        gradient.point([round(255 * (first + (last - first) * level / 255)) for level in range(256)])
        for first, last in zip(*ends, strict=True)
    ]
    picture = Image.merge("RGB", bands)
    draw = ImageDraw.Draw(picture)
    draw.text((4, 2), "null engine", fill="white")
    draw.text((4, 14), identity.hex()[:8], fill="white")
    words = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    return encode_png(
        picture,
        {
            "Software": "ourvidz, null engine",
            **(words if embed_prompt else {}),
            "seed": str((request.seed + index) % _SEEDS),
            "steps": str(request.steps),
            "guidance_scale": str(request.guidance_scale),
            "size": f"{width}x{height}",
            "model": request.model,
        },
    )


def _enhanced(request: Enhance) -> Enhanced:
    moods = ("soft morning light", "clear evening light", "rich colour, fine detail", "shallow depth of field")
    text = f"{request.prompt}, {moods[request.seed % len(moods)]}"
    return Enhanced(request_id=request.request_id, text=text, seconds=0.0, tokens=len(text.split()), model="null")
