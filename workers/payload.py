"""The payload as pydantic models: where each value is looked for, and what it must be.

A value is taken from the first of its places that holds one: `config` before `metadata`. Fields that no model
names stay in the stored payload and are otherwise ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError

from workers import values
from workers.presets import BUCKETS, SDXL, WAN_SOLVER, Preset

MAX_SEED: Final = 2**63 - 1
REFERENCE_TYPES: Final = ("style", "composition", "character")

Id = Annotated[str | None, PlainValidator(values.identifier)]
Url = Annotated[str | None, PlainValidator(values.url)]
Steps = Annotated[int | None, PlainValidator(values.whole(1, 150))]
Guidance = Annotated[float | None, PlainValidator(values.number(0, 30))]

PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": ("prompt",),
    "user_id": ("user_id",),
    "video_id": ("video_id",),
    "image_id": ("image_id",),
    "character_id": ("character_id",),
    "bucket": ("bucket",),
    "model_variant": ("model_variant", "metadata.model_variant"),
    "negative_prompt": ("negative_prompt", "metadata.negative_prompt"),
    "size": ("config.size",),
    "steps": ("config.sample_steps",),
    "guidance_scale": ("config.sample_guide_scale",),
    "solver": ("config.sample_solver",),
    "shift": ("config.sample_shift",),
    "seed": ("config.seed", "metadata.seed"),
    "num_images": ("config.num_images", "metadata.num_images"),
    "expected_time": ("config.expected_time", "metadata.expected_generation_time"),
    "single": ("config.image", "config.reference_image_url", "metadata.reference_image_url"),
    "start": ("config.first_frame", "metadata.start_reference_url"),
    "end": ("config.last_frame", "metadata.end_reference_url"),
    "reference_strength": ("config.reference_strength", "metadata.reference_strength"),
    "reference_type": ("config.reference_type", "metadata.reference_type"),
}
"""Field → where it may stand, in the order in which it is looked for."""

REFERENCE_FIELDS: Final = ("single", "start", "end")


class Payload(BaseModel):
    """What every job says, whatever its type. None: not given."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: Annotated[str, PlainValidator(values.text(values.MAX_PROMPT, blank=False))]
    user_id: Annotated[str, PlainValidator(values.identifier)]
    video_id: Id = None
    image_id: Id = None
    character_id: Id = None
    bucket: Annotated[str | None, PlainValidator(values.one_of(*sorted(BUCKETS)))] = None
    model_variant: Any = None  # judged by what is configured, see request.py
    seed: Annotated[int | None, PlainValidator(values.whole(0, MAX_SEED))] = None
    # A tenth of a second at least: performance_ratio divides by it.
    expected_time: Annotated[float | None, PlainValidator(values.number(0.1, 86_400))] = None
    single: Url = None
    start: Url = None
    end: Url = None
    reference_strength: Annotated[float | None, PlainValidator(values.number(0.1, 1))] = None
    reference_type: Annotated[str | None, PlainValidator(values.one_of(*REFERENCE_TYPES))] = None
    steps: Steps = None
    guidance_scale: Guidance = None


class SdxlPayload(Payload):
    """SDXL: latents are an eighth of the picture. Solver and shift are WAN's and are not looked at."""

    size: Annotated[tuple[int, int] | None, PlainValidator(values.size(8, 64, 2048, 1536 * 1536))] = None
    num_images: Annotated[int | None, PlainValidator(values.one_of(1, 3, 6))] = None
    negative_prompt: Annotated[str | None, PlainValidator(values.text(values.MAX_PROMPT, blank=True))] = None


class WanPayload(Payload):
    """WAN: latents are an eighth, in patches of two. A negative prompt is not supported and not looked at."""

    size: Annotated[tuple[int, int] | None, PlainValidator(values.size(16, 64, 2048, 1024 * 1024))] = None
    num_images: Annotated[int | None, PlainValidator(values.one_of(1))] = None
    solver: Annotated[str | None, PlainValidator(values.one_of(WAN_SOLVER))] = None
    shift: Annotated[float | None, PlainValidator(values.number(0.1, 20))] = None


def find(payload: Mapping[str, Any], place: str) -> Any:
    """Return what stands at `place` ("seed" or "config.seed"), or None."""
    *folder, name = place.split(".")
    held = payload.get(folder[0]) if folder else payload
    return held.get(name) if isinstance(held, dict) else None


def gather(payload: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Field → the place where it was found and what stood there; null is not given, nor is a reference of ""."""
    found: dict[str, tuple[str, Any]] = {}
    for name, places in PLACES.items():
        for place in places:
            value = find(payload, place)
            if value is not None and not (name in REFERENCE_FIELDS and value == ""):
                found[name] = (place, value)
                break
    return found


def check(
    payload: Mapping[str, Any], found: Mapping[str, tuple[str, Any]], preset: Preset | None
) -> tuple[Payload | None, list[str]]:
    """Return the typed values, or None and one sentence for everything that is wrong with them."""
    problems = [
        f"{name} must be an object, got {values.shown(payload[name])}"
        for name in ("config", "metadata")
        if payload.get(name) is not None and not isinstance(payload[name], dict)
    ]
    model = Payload if preset is None else SdxlPayload if preset.family == SDXL else WanPayload
    typed = None
    try:
        typed = model.model_validate({name: value for name, (_, value) in found.items()})
    except ValidationError as refused:
        for error in refused.errors(include_url=False, include_input=False):
            name = str(error["loc"][0])
            place = found[name][0] if name in found else PLACES[name][0]
            problems.append(f"{place} is missing" if error["type"] == "missing" else f"{place} {error['msg']}")
    return (None if problems else typed), problems
