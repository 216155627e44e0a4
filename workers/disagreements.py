"""Where a payload contradicts itself. The type decides; what was overruled is recorded, not refused."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from workers.payload import PLACES, REFERENCE_FIELDS, find
from workers.presets import SDXL, WAN_TASK, Preset
from workers.values import shown

_BY_TYPE: Final[tuple[tuple[str, Callable[[Preset], Any]], ...]] = (
    ("config.content_type", lambda preset: preset.media),
    ("config.file_extension", lambda preset: preset.extension),
    ("config.enhance_prompt", lambda preset: preset.enhance),
    ("config.frame_num", lambda preset: preset.frame_num),
    ("config.task", lambda preset: None if preset.family == SDXL else WAN_TASK),
    ("metadata.content_type", lambda preset: preset.media),
    ("metadata.file_extension", lambda preset: preset.extension),
    ("metadata.generation_format", lambda preset: preset.job_type),
    ("metadata.model_type", lambda preset: preset.family),
    ("metadata.is_sdxl", lambda preset: preset.family == SDXL),
    ("metadata.queue", lambda preset: preset.queue),
)
"""Place → what the type says of it."""

_COPIES: Final = (
    ("metadata.prompt", "prompt"),
    ("metadata.negative_prompt", "negative_prompt"),
    ("metadata.bucket", "bucket"),
    ("metadata.model_variant", "model_variant"),
    ("metadata.user_id", "user_id"),
    ("metadata.character_id", "character_id"),
    ("metadata.seed", "seed"),
    ("metadata.num_images", "num_images"),
    ("metadata.sample_steps", "steps"),
    ("metadata.sample_guide_scale", "guidance_scale"),
    ("metadata.sample_solver", "solver"),
    ("metadata.sample_shift", "shift"),
    ("metadata.expected_generation_time", "expected_time"),
    ("metadata.reference_image_url", "single"),
    ("metadata.start_reference_url", "start"),
    ("metadata.end_reference_url", "end"),
    ("metadata.reference_strength", "reference_strength"),
    ("metadata.reference_type", "reference_type"),
)
"""metadata's copy → the field that it should equal."""

_PERSONAL: Final = frozenset({"prompt", "negative_prompt", *REFERENCE_FIELDS})

AHEAD: Final = timedelta(minutes=5)
"""A producer's clock that is further ahead than this is worth a word: waits are counted from it."""


def with_type(payload: Mapping[str, Any], preset: Preset, queue: str) -> list[str]:
    """One sentence for each field that says something else than the job's type, the list it came on included."""
    said = [
        f"{place} says {shown(value)}, the type says {shown(wanted(preset))}"
        for place, wanted in _BY_TYPE
        if (value := find(payload, place)) is not None and not _same(value, wanted(preset))
    ]
    if queue != preset.queue:
        said.append(f"it came on {shown(queue)}, the type's list is {shown(preset.queue)}")
    bucket = payload.get("bucket")
    if bucket is not None and bucket != preset.bucket:
        said.append(f"bucket says {shown(bucket)} and is used, the type's own is {shown(preset.bucket)}")
    return said


def with_copies(payload: Mapping[str, Any], found: Mapping[str, tuple[str, Any]]) -> list[str]:
    """One sentence for each copy in `metadata` that differs from the value that is used; none quotes a person."""
    said = []
    for place, name in _COPIES:
        copy = find(payload, place)
        used_place, used = found.get(name, (PLACES[name][0], None))
        if copy is None or used_place == place or _same(copy, used):
            continue
        private = name in _PERSONAL
        said.append(f"{place} says {shown(copy, private=private)}, {used_place} says {shown(used, private=private)}")
    return said


def created_at(payload: Mapping[str, Any], now: datetime) -> tuple[str | None, list[str]]:
    """The producer's time in UTC, as ISO-8601, or None and why it cannot be used. Without a zone it is UTC."""
    value = payload.get("created_at")
    if value is None:
        return None, []
    try:
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None, [f"created_at says {shown(value)}, which is no ISO-8601 time"]
    ahead = [f"created_at says {time.isoformat()}, which lies ahead of our clock"] if time > now + AHEAD else []
    return time.isoformat(), ahead


def _same(one: Any, other: Any) -> bool:
    """Equality that keeps true and 1 apart."""
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)
