"""From the bytes of a list to a new job or a dead letter. Pure: no clock, no dice, no database.

readable, and right             JobQueued
readable, with an id, but wrong JobQueued, OutcomeDecided(failed): it can be inspected, and its owner hears of it
no JSON object, or no usable id dead letter
"""

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from statemachine.admission import DeadLetter, NewJob
from statemachine.events import Event, JobQueued, OutcomeDecided
from statemachine.states import Outcome
from workers import values
from workers.presets import KNOWN_VARIANTS, PRESETS
from workers.request import Resolved, resolve

MAX_BYTES: Final = 1024 * 1024
"""A payload of more bytes is refused. Real ones have 3 kB; a prompt of 10,000 characters takes at most 60 kB."""
HOPELESS: Final = 32
"""A payload of so many times the limit is not even parsed for its id."""
MAX_DEPTH: Final = 100
"""Objects and lists inside each other. Beyond it the parser itself could run out of stack."""
MAX_DIGITS: Final = 1000
"""Of one integer. Python refuses to read more than 4300, in a way that hides the rest of the payload."""
MAX_PROBLEMS: Final = 10
MAX_MESSAGE: Final = 1500
"""Problems and characters of one message."""

ERROR_TYPE: Final = "InvalidPayload"

# Possessive, and content with the end of the text: one pass, whatever stands there.
_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


class Unreadable(Exception):
    """The bytes are no JSON object. Its text becomes the dead letter's reason."""


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON object, what makes it unacceptable as JSON, and what is merely odd about it."""

    payload: dict[str, Any]
    problems: list[str]
    oddities: list[str]


def read(
    raw: bytes,
    *,
    queue: str,
    source: str,
    now: datetime,
    draw_seed: Callable[[], int],
    known_variants: Mapping[str, str] = KNOWN_VARIANTS,
    max_bytes: int = MAX_BYTES,
) -> NewJob | DeadLetter:
    """Read one payload that came on `queue` from `source` ("redis", "cli"). Never raises for what it reads.

    `known_variants` maps the configured models to their families. `now` is only compared with the producer's clock.
    """
    try:
        parsed = parse(raw, max_bytes=max_bytes)
    except Unreadable as refused:
        return DeadLetter(raw=raw, reason=str(refused), queue=queue, source=source)
    given = parsed.payload.get("id")
    job_id = values.uuid(given)
    if job_id is None:
        reason = f"id must be a UUID, got {values.shown(given)}" if given is not None else "id is missing"
        return DeadLetter(raw=raw, reason=reason, queue=queue, source=source)
    resolved = resolve(
        parsed.payload,
        queue=queue,
        source=source,
        now=now,
        draw_seed=draw_seed,
        known_variants=known_variants,
    )
    payload_digest = values.digest(parsed.payload)
    events = _events(resolved, parsed, payload_digest=payload_digest, queue=queue, source=source)
    content = resolved.request.content if len(events) == 1 and resolved.request else None
    return NewJob(job_id=job_id, events=events, raw=raw, content=content)


def parse(raw: bytes, *, max_bytes: int = MAX_BYTES) -> Parsed:
    """Parse a payload as leniently as its id needs, and say what must not be accepted. Raises `Unreadable`."""
    problems, oddities = [], []
    if len(raw) > max_bytes:
        problems.append(f"the payload must have at most {max_bytes:,} bytes, got {len(raw):,}")
        if len(raw) > max_bytes * HOPELESS:
            raise Unreadable(f"{problems[0]}: not parsed")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8: byte {error.start} of {len(raw):,}") from error
    if (depth := _depth(text)) > MAX_DEPTH:
        raise Unreadable(f"nested {depth:,} deep, at most {MAX_DEPTH} are read")

    def whole(digits: str) -> int | str:
        if len(digits) <= MAX_DIGITS:
            return int(digits)
        problems.append(f"an integer must have at most {MAX_DIGITS:,} digits, got one of {len(digits):,}")
        return digits

    def no_number(name: str) -> float:
        problems.append(f"numbers must be JSON, got {name}")
        return float(name)

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        held = dict(pairs)
        if len(held) < len(pairs):
            again = Counter(name for name, _ in pairs).most_common(1)[0][0]
            oddities.append(f"{values.shown(again)} stands twice in one object, the last one is used")
        return held

    try:
        payload = json.loads(text, parse_int=whole, parse_constant=no_number, object_pairs_hook=fields)
    except (ValueError, RecursionError) as error:
        where = f": {error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(f"not JSON{where}") from error
    if not isinstance(payload, dict):
        raise Unreadable(f"must be a JSON object, got {values.shown(payload, private=True)}")
    return Parsed(payload=payload, problems=problems, oddities=oddities[:MAX_PROBLEMS])


def message(problems: list[str]) -> str:
    """One message for all that is wrong, in the specification's words and of bounded length."""
    more = len(problems) - MAX_PROBLEMS
    said = "; ".join(problems[:MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
    return values.printable(f"Invalid parameters: {said}", MAX_MESSAGE)


def build_payload(
    job_type: str,
    prompt: str,
    *,
    num_images: int | None = None,
    seed: int | None = None,
    negative_prompt: str | None = None,
    user_id: str | None = None,
    job_id: str | None = None,
    config: Mapping[str, Any] | None = None,
    created_at: datetime | None = None,
) -> dict[str, Any]:
    """Return a payload in the producer's form, with the type's preset written out and `config` laid over it.

    Ids are drawn where none are given. Raises KeyError for an unknown type; all else is judged where it is read.
    """
    preset = PRESETS[job_type]
    settings: dict[str, Any] = {
        "size": f"{preset.width}*{preset.height}",
        "sample_steps": preset.steps,
        "sample_guide_scale": preset.guidance_scale,
        "frame_num": preset.frame_num,
        "enhance_prompt": preset.enhance,
        "expected_time": preset.expected_time,
        "content_type": preset.media,
        "file_extension": preset.extension,
        "num_images": 1 if num_images is None else num_images,
    }
    if seed is not None:
        settings["seed"] = seed
    payload: dict[str, Any] = {
        "id": job_id or str(uuid.uuid4()),
        "type": job_type,
        "prompt": prompt,
        "config": {**settings, **(config or {})},
        "user_id": user_id or str(uuid.uuid4()),
        "model_variant": preset.model,
        "bucket": preset.bucket,
        "metadata": {"queue": preset.queue},
    }
    if negative_prompt is not None:
        payload["negative_prompt"] = negative_prompt
    if created_at is not None:
        payload["created_at"] = created_at.astimezone(UTC).isoformat()
    return payload


def _events(resolved: Resolved, parsed: Parsed, *, payload_digest: str, queue: str, source: str) -> list[Event]:
    problems = parsed.problems + resolved.problems
    request = None if problems else resolved.request
    preset = resolved.preset
    queued = JobQueued(
        payload_digest=payload_digest,
        job_type=preset.job_type if preset else None,
        user_id=resolved.user_id,
        queue=preset.queue if preset else queue,
        source=source,
        stages=request.stages if request else ["callback"],
        model=request.model if request else None,
        seed=request.seed if request else None,
        request=request.history if request else {},
        asked=resolved.asked,
        disagreements=parsed.oddities + resolved.disagreements,
        content_digest=values.digest(request.content) if request else None,
        created_at=resolved.created_at,
    )
    if request is not None:
        return [queued]
    return [
        queued,
        OutcomeDecided(
            outcome=Outcome.FAILED, error_class="permanent", error_type=ERROR_TYPE, message=message(problems)
        ),
    ]


def _depth(text: str) -> int:
    """How deep objects and lists stand inside each other. An upper bound where the text is no JSON."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
