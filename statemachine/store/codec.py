"""Events to canonical text and back, and the digest that chains them."""

import hashlib
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import msgspec

from statemachine.errors import IllegalEvent, UnreadableHistory
from statemachine.events import KINDS, Event, Unknown
from statemachine.evolve import evolve, target
from statemachine.job import Job, Stored
from statemachine.machine import judge
from statemachine.states import STAGES, State
from statemachine.upcasts import UPCASTS

_encoder: Final = msgspec.json.Encoder(order="sorted")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces. What UTF-8 cannot hold is replaced, so that no text is refused."""
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(value, order="sorted")
        return _encoder.encode(_encodable(plain)).decode()


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case list():
            return [_encodable(item) for item in value]
        case dict():
            return {_encodable(key): _encodable(item) for key, item in value.items()}
        case _:
            return value


@cache
def _decoder(kind: str) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(KINDS[kind])


def decode(kind: str, data: str) -> Event:
    """The event of a stored row. Earlier versions' kinds are told in today's, those of a later one are `Unknown`."""
    if kind in UPCASTS:
        return UPCASTS[kind](msgspec.json.decode(data))
    if kind not in KINDS:
        return Unknown(stored_kind=kind, stored_data=data)
    return _decoder(kind).decode(data)


def digest(previous: str, row: Stored) -> str:
    """sha256(previous digest of the job ‖ the canonical event in its envelope)."""
    return chained(previous, envelope(row, version=row.version))


def envelope(row: Stored, *, version: int) -> list[Any]:
    """What a digest covers of an event beside the digest before it, were it at that version."""
    return [
        row.job_id,
        version,
        row.kind,
        row.from_state,
        row.to_state,
        row.run,
        row.stage,
        row.attempt,
        row.worker_id,
        row.at.astimezone(UTC).isoformat(timespec="microseconds"),
        row.data,
    ]


def chained(previous: str, envelope: list[Any]) -> str:
    """The digest of an envelope behind the event whose digest is `previous`."""
    return hashlib.sha256(previous.encode() + canonical(envelope).encode()).hexdigest()


def seal(job: Job, event: Event, *, worker_id: str | None, at: datetime) -> tuple[Stored, Job]:
    """Judge `event`, put it into its envelope behind `job`, and return it with the job that follows.

    Raises IllegalEvent. Time never runs back within a job: `at` is at least that of the event before.
    """
    data = canonical(event)
    if "null" in data:
        _refuse_lost_numbers(job, event, data)
    to_state = target(job, event)
    judge(job.id, event.kind, job.state, to_state)
    if job.version == 0 and event.kind != "job_queued":
        raise IllegalEvent(job.id, event.kind, "no state", to_state)
    moment = max(at, job.last_at) if job.last_at is not None else at
    attempt = getattr(event, "attempt", None) if event.kind == "stage_started" else None
    if attempt is None and job.open_attempt is not None:
        attempt = job.open_attempt.attempt
    row = Stored(
        job_id=job.id,
        version=job.version + 1,
        kind=event.kind,
        from_state=job.state if job.version else None,
        to_state=to_state,
        run=getattr(event, "run", job.run),
        stage=job.state if job.state in STAGES else None,
        attempt=attempt,
        worker_id=worker_id,
        at=moment,
        data=data,
        digest="",
        event=event,
    )
    row = msgspec.structs.replace(row, digest=digest(job.digest, row))
    return row, evolve(job, row)


def _refuse_lost_numbers(job: Job, event: Event, data: str) -> None:
    """JSON writes NaN and infinity as null: what could not be read back must not be written."""
    try:
        decode(event.kind, data)
    except msgspec.ValidationError as error:
        raise ValueError(f"job {job.id}: {event.kind} holds a number that JSON cannot: {error}") from error


def seal_all(job: Job, events: list[Event], *, worker_id: str | None, at: datetime) -> tuple[list[Stored], Job]:
    """`seal` one after the other."""
    rows: list[Stored] = []
    for event in events:
        row, job = seal(job, event, worker_id=worker_id, at=at)
        rows.append(row)
    return rows, job


def stored(row: Any) -> Stored:
    """A row of `job_events` as a value. Raises UnreadableHistory for what this version cannot understand."""
    try:
        return _stored(row)
    except (ValueError, msgspec.DecodeError) as error:
        raise _unreadable(row, error) from error


def _unreadable(row: Any, error: Exception) -> UnreadableHistory:
    return UnreadableHistory(f"job {row.job_id}, version {row.version} ({row.kind}) cannot be read: {error}")


def _stored(row: Any) -> Stored:
    return Stored(
        job_id=row.job_id,
        version=row.version,
        kind=row.kind,
        from_state=None if row.from_state is None else State(row.from_state),
        to_state=State(row.to_state),
        run=row.run,
        stage=row.stage,
        attempt=row.attempt,
        worker_id=row.worker_id,
        at=row.at,
        data=row.data,
        digest=row.digest,
        event=decode(row.kind, row.data),
    )


def replay(job_id: str, history: list[Stored]) -> Job:
    """What a job's history adds up to."""
    job = Job(id=job_id)
    for row in history:
        job = follow(job, row)
    return job


def follow(job: Job, row: Stored) -> Job:
    """The job after that event. Raises UnreadableHistory where a field holds what no state, outcome or time is."""
    try:
        return evolve(job, row)
    except ValueError as error:
        raise _unreadable(row, error) from error
