"""What is to be made: a payload resolved into a `Request`, and its two halves.

The half without personal content goes into the history (`JobQueued.request`); the prompts and the references' URLs
are kept apart from it (`NewJob.content`), so that they can be erased. `Request.from_job` puts both together again.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from workers import disagreements
from workers.negative import negative_prompt
from workers.payload import Payload, SdxlPayload, WanPayload, check, find, gather
from workers.presets import PRESETS, SDXL, WAN_FPS, WAN_SHIFT, WAN_SOLVER, WAN_TASK, Preset
from workers.values import plain, shown, uuid

ReferenceMode = Literal["none", "single", "start", "end", "both"]

DEFAULT_STRENGTH: Final = 0.5
DEFAULT_TYPE: Final = "style"

NOT_SET: Final = ("480*832", (25, 50), (6.5, 7.5))
"""WAN's size, steps and guidance: on an SDXL job of today's producer the three together mean "not set"."""

ASKED: Final = (
    "size", "sample_steps", "sample_guide_scale", "sample_solver", "sample_shift", "frame_num", "enhance_prompt",
    "seed", "expected_time", "content_type", "file_extension", "num_images", "task", "reference_strength",
    "reference_type",
)  # fmt: skip
"""The values of `config` that the history keeps as they came; none of them is personal."""

CONTENT: Final = ("prompt", "negative_prompt", "references")
"""What is personal of what was asked: what `content_digest` covers."""
_PERSONAL: Final = (*CONTENT, "enhanced_prompt")


class Reference(msgspec.Struct, frozen=True):
    """A picture to hold to. `role` is single, start or end."""

    role: str
    url: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One job, resolved: everything that its stages need to know. Sizes in pixels, times in seconds.

    `frame_num` is the producer's number (83), `frames` what is made (81). `reference_strength` grows with closeness
    to the reference; it and `reference_type` are None without one. `negative_source` is given, built or none.
    """

    job_type: str
    family: str
    media: str
    extension: str
    bucket: str
    model: str
    user_id: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    num_images: int
    frame_num: int
    frames: int
    enhance: bool
    expected_time: float
    prompt: str
    fps: int | None = None
    task: str | None = None
    solver: str | None = None
    shift: float | None = None
    reference_mode: ReferenceMode = "none"
    reference_strength: float | None = None
    reference_type: str | None = None
    negative_source: str = "none"
    negative_prompt: str | None = None
    references: list[Reference] = []
    enhanced_prompt: str | None = None
    video_id: str | None = None
    image_id: str | None = None
    character_id: str | None = None

    @classmethod
    def from_job(cls, request: Mapping[str, Any], content: Mapping[str, Any]) -> "Request":
        """Put the halves together. Raises msgspec.ValidationError where one is missing: erased, or never accepted."""
        personal = {name: content[name] for name in _PERSONAL if name in content}
        return msgspec.convert({**request, **personal}, cls)

    @property
    def history(self) -> dict[str, Any]:
        """The half without personal content, plain JSON."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if name not in _PERSONAL}

    @property
    def content(self) -> dict[str, Any]:
        """The personal half, plain JSON: prompt, negative_prompt, references."""
        whole = msgspec.to_builtins(self)
        return {name: whole[name] for name in CONTENT}

    @property
    def stages(self) -> list[str]:
        """The stages that this job goes through, in order."""
        optional = {"fetching_refs": bool(self.references), "enhancing": self.enhance}
        order = ("fetching_refs", "enhancing", "generating", "uploading", "callback")
        return [stage for stage in order if optional.get(stage, True)]


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a payload: a request, or `problems` that say why there is none."""

    preset: Preset | None
    user_id: str | None
    request: Request | None
    problems: list[str]
    disagreements: list[str]
    asked: dict[str, Any]
    created_at: str | None


def resolve(
    payload: Mapping[str, Any],
    *,
    queue: str,
    source: str,
    now: datetime,
    draw_seed: Callable[[], int],
    known_variants: Mapping[str, str],
) -> Resolved:
    """Resolve a payload, or collect everything that is wrong with it. A seed is drawn only for an accepted one."""
    named = payload.get("type")
    preset = PRESETS.get(named) if isinstance(named, str) else None
    found = gather(payload)
    copies = disagreements.with_copies(payload, found)
    if preset is not None and preset.family == SDXL and source == "redis" and _not_set(payload):
        for name in ("size", "steps", "guidance_scale"):
            found.pop(name, None)
    typed, problems = check(payload, found, preset)
    if preset is None:
        problems.insert(0, f"type must be one of {', '.join(PRESETS)}, got {shown(named)}")
    else:
        problems += _unknown_variant(found, preset, known_variants)
    at, said = disagreements.created_at(payload, now)
    request = None
    if preset is not None:
        said += disagreements.with_type(payload, preset, queue) + copies
        if typed is not None and not problems:
            request, more = _request(typed, preset, draw_seed)
            said += more
            if preset.family != SDXL and "negative_prompt" in found:
                said.append("negative_prompt is given, WAN does not support one: it is not used")
    return Resolved(
        preset=preset,
        user_id=uuid(payload.get("user_id")),
        request=request,
        problems=problems,
        disagreements=said,
        asked={name: plain(value) for name in ASKED if (value := find(payload, f"config.{name}")) is not None},
        created_at=at,
    )


def _not_set(payload: Mapping[str, Any]) -> bool:
    size, steps, guidance = NOT_SET
    return (
        find(payload, "config.size") == size
        and find(payload, "config.sample_steps") in steps
        and find(payload, "config.sample_guide_scale") in guidance
    )


def _unknown_variant(found: Mapping[str, tuple[str, Any]], preset: Preset, known: Mapping[str, str]) -> list[str]:
    if "model_variant" not in found:
        return []
    place, named = found["model_variant"]
    if isinstance(named, str) and known.get(named) == preset.family:
        return []
    names = [name for name, family in known.items() if family == preset.family]
    allowed = f"one of {', '.join(names)}" if names else "left out, since no model of this family is configured"
    return [f"{place} must be {allowed}, got {shown(named)}"]


def _references(typed: Payload, preset: Preset) -> tuple[ReferenceMode, list[Reference], list[str]]:
    """The reference's rule (start or end win over single), cut to what the type can hold to."""
    single, start, end = typed.single, typed.start, typed.end
    said = []
    if preset.family == SDXL:
        if start or end:
            said.append("start and end references are WAN's: an SDXL picture holds to a single one")
        single, start, end = single or start or end, None, None
    elif preset.media == "image" and end:
        said.append("one frame has both ends: " + ("the start reference is used" if start else "the end is its start"))
        start, end = start or end, None
    if single and (start or end):
        said.append("a single reference is given beside start or end, which win: it is not used")
    if start and end:
        return "both", [Reference("start", start), Reference("end", end)], said
    if start:
        return "start", [Reference("start", start)], said
    if end:
        return "end", [Reference("end", end)], said
    return ("single", [Reference("single", single)], said) if single else ("none", [], said)


def _request(typed: Payload, preset: Preset, draw_seed: Callable[[], int]) -> tuple[Request, list[str]]:
    assert isinstance(typed, SdxlPayload | WanPayload)  # check() chose it by the preset
    mode, references, said = _references(typed, preset)
    width, height = typed.size or (preset.width, preset.height)
    wan = preset.family != SDXL
    given = typed.negative_prompt if isinstance(typed, SdxlPayload) else None
    negative, negative_source = None, "none"
    if not wan:
        negative = negative_prompt(typed.prompt) if given is None else given
        negative_source = "built" if given is None else "given"
    request = Request(
        job_type=preset.job_type,
        family=preset.family,
        media=preset.media,
        extension=preset.extension,
        bucket=preset.bucket if typed.bucket is None else typed.bucket,
        model=preset.model if typed.model_variant is None else typed.model_variant,
        user_id=typed.user_id,
        width=width,
        height=height,
        steps=preset.steps if typed.steps is None else typed.steps,
        guidance_scale=preset.guidance_scale if typed.guidance_scale is None else typed.guidance_scale,
        seed=draw_seed() if typed.seed is None else typed.seed,
        num_images=1 if typed.num_images is None else typed.num_images,
        frame_num=preset.frame_num,
        frames=preset.frames,
        fps=WAN_FPS if preset.media == "video" else None,
        task=WAN_TASK if wan else None,
        solver=WAN_SOLVER if wan else None,
        shift=(typed.shift if isinstance(typed, WanPayload) and typed.shift is not None else WAN_SHIFT)
        if wan
        else None,
        enhance=preset.enhance,
        expected_time=preset.expected_time if typed.expected_time is None else typed.expected_time,
        prompt=typed.prompt,
        negative_prompt=negative,
        negative_source=negative_source,
        reference_mode=mode,
        reference_strength=(typed.reference_strength or DEFAULT_STRENGTH) if references else None,
        reference_type=(typed.reference_type or DEFAULT_TYPE) if references else None,
        references=references,
        video_id=typed.video_id,
        image_id=typed.image_id,
        character_id=typed.character_id,
    )
    return request, said
