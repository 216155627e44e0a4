"""Ingress: from the producer's list into the store, with nothing lost on the way and nothing twice.

    list ──move──> processing list ──read, commit──> store ──then──> removed by value

A crash anywhere leaves the payload in a list; the store knows a payload that it has seen.
"""

import hashlib
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import uuid4

import structlog

from statemachine.admission import Admission, DeadLetter, NewJob, Verdict
from statemachine.errors import StoreAway
from workers.arrivals import MAX_BYTES, read
from workers.lists import Lists, ListsAway
from workers.presets import KNOWN_VARIANTS

BATCH: Final = 100
"""Payloads of one commit."""
ALIVE_SECONDS: Final = 15.0
"""Without a sign of life for so long, others take over what an ingress holds."""
STORE_TRIES: Final = 3
"""A payload that the store refuses so often, for no reason that it knows, becomes a dead letter."""
LONGEST_BACKOFF: Final = 5.0
"""Whatever was pushed meanwhile waits so much longer than the database or Redis was away."""

log = structlog.get_logger(__name__)
_dice: Final = secrets.SystemRandom()

Arrival = NewJob | DeadLetter


class Admits(Protocol):
    """The store as an ingress sees it."""

    def admit(self, arrivals: Sequence[Arrival], *, at: datetime | None) -> list[Admission]:
        """Commit all of them in one group and return a final verdict on each, in order. Raises `StoreAway`.

        Without `at` the store's own clock says when.
        """


def draw_seed() -> int:
    """A seed for a job that has none, from the range of the reference: every receiver's integers can hold it."""
    return 1 + secrets.randbelow(999_999_999)


def utc_now() -> datetime:
    """The host's clock: for backoffs and signs of life, not for the history."""
    return datetime.now(UTC)


def new_name() -> str:
    """A name for an ingress that no other has: the host, for people, and a random part."""
    return f"{socket.gethostname()}-{uuid4().hex[:12]}"


class Ingress:
    """One list's way in. A plain object: `tick` for a test's world, `serve_once` for a thread."""

    def __init__(
        self,
        lists: Lists,
        store: Admits,
        *,
        source: str = "redis",
        known_variants: Mapping[str, str] = KNOWN_VARIANTS,
        max_bytes: int = MAX_BYTES,
        batch: int = BATCH,
        alive_seconds: float = ALIVE_SECONDS,
        now: Callable[[], datetime] = utc_now,
        draw_seed: Callable[[], int] = draw_seed,
        draw: Callable[[], float] = _dice.random,
        read: Callable[..., Arrival] = read,
    ) -> None:
        self.lists = lists
        self.store = store
        self._source = source
        self._known_variants = known_variants
        self._max_bytes = max_bytes
        self._batch = batch
        self._alive = timedelta(seconds=alive_seconds)
        self._now = now
        self._draw_seed = draw_seed
        self._draw = draw
        self._read = read
        self._log = log.bind(queue=lists.queue)
        self._rescan = True  # an ingress that came back under its name finds what it held
        self._beat_at: datetime | None = None
        self._resume_at: datetime | None = None
        self._failures = 0
        self._refusals: dict[bytes, list[str]] = {}

    def tick(self, now: datetime) -> int:
        """Settle what is there, up to one batch, without waiting. Return how many payloads were settled.

        Never raises for Redis or the database being away: the payloads stay in a list, and a later tick goes on.
        """
        return self._attempt(now, at=now, timeout=None)

    def serve_once(self, timeout: float, *, wait: Callable[[float], object]) -> int:
        """As `tick`, but wait up to `timeout` seconds for a payload, or by `wait(seconds)` while a backoff lasts."""
        now = self._now()
        resting = self._resting(now)
        if resting > 0.0:
            self._keep_alive(now)
            wait(min(timeout, resting))
            return 0
        # A third of a life at most, so that a quiet list is no silence; the store's clock stamps what comes.
        return self._attempt(now, at=None, timeout=min(timeout, self._alive.total_seconds() / 3))

    def close(self) -> None:
        """Give back what is held and say good-bye, so that others need not wait for our silence."""
        try:
            self.lists.leave()
        except ListsAway as away:
            self._log.warning("ingress.left_without_good_bye", reason=str(away))

    def _attempt(self, now: datetime, *, at: datetime | None, timeout: float | None) -> int:
        if not self._keep_alive(now) or self._resting(now) > 0.0:
            return 0
        try:
            settled = self._settle(self._take(timeout), now, at)
        except (ListsAway, StoreAway) as away:
            self._back_off(self._now() if at is None else now, away)
            return 0
        self._failures, self._resume_at = 0, None
        return settled

    def _take(self, timeout: float | None) -> list[bytes]:
        if self._rescan:
            held = self.lists.held(self._batch)
            if held:
                return held
            self._rescan = False
        if timeout is None:
            return self.lists.take_now(self._batch)
        first = self.lists.take(timeout)
        return [] if first is None else [first, *self.lists.take_now(self._batch - 1)]

    def _settle(self, payloads: Sequence[bytes], now: datetime, at: datetime | None) -> int:
        if not payloads:
            return 0
        arrivals = [self._arrival(raw, now) for raw in payloads]
        verdicts = list(zip(arrivals, self._admit(arrivals, at), strict=True))
        for arrival, admission in verdicts:
            self._tell(arrival, admission)
        settled = [arrival.raw for arrival, admission in verdicts if admission is not None]
        self.lists.drop(settled)  # only now: every verdict is final
        if len(settled) < len(payloads):
            raise StoreAway(f"the store refused {len(payloads) - len(settled)} of {len(payloads)} payloads")
        return len(settled)

    def _arrival(self, raw: bytes, now: datetime) -> Arrival:
        try:
            return self._read(
                raw,
                queue=self.lists.queue,
                source=self._source,
                now=now,
                draw_seed=self._draw_seed,
                known_variants=self._known_variants,
                max_bytes=self._max_bytes,
            )
        except Exception as error:  # noqa: BLE001  # one payload that we cannot read must not hold up the others
            self._log.exception("ingress.unreadable", bytes=len(raw))
            return self._dead(raw, f"reading it failed: {type(error).__name__}")

    def _admit(self, arrivals: Sequence[Arrival], at: datetime | None) -> list[Admission | None]:
        """The store's verdicts; None where it has none yet and the payload stays in the processing list."""
        try:
            admissions = self.store.admit(arrivals, at=at)
        except StoreAway:
            raise
        except Exception:  # noqa: BLE001  # one of them breaks the group: find it, and let the others in
            self._log.exception("ingress.group_refused", payloads=len(arrivals))
            return [self._admit_alone(arrival, at) for arrival in arrivals]
        self._refusals.clear()
        return [*admissions]

    def _admit_alone(self, arrival: Arrival, at: datetime | None) -> Admission | None:
        key = hashlib.sha256(arrival.raw).digest()
        reason = self._refusals.get(key, [])
        if len(reason) >= STORE_TRIES:
            arrival = self._dead(arrival.raw, f"the store could not take it: {', '.join(reason)}", arrival.job_id)
        try:
            return self.store.admit([arrival], at=at)[0]
        except StoreAway:
            raise
        except Exception as error:  # noqa: BLE001  # unexpected, so perhaps of the moment: it is tried again first
            self._log.exception("ingress.refused_by_store", job_id=arrival.job_id)
            self._refusals[key] = [*reason, type(error).__name__][-STORE_TRIES:]
            return None

    def _dead(self, raw: bytes, reason: str, job_id: str | None = None) -> DeadLetter:
        return DeadLetter(raw=raw, reason=reason, queue=self.lists.queue, source=self._source, job_id=job_id)

    def _keep_alive(self, now: datetime) -> bool:
        """When it is time: give a sign of life, clear the dead, and look at what we hold. False while Redis is away."""
        interval = self._alive / 3
        if self._beat_at is not None and now < self._beat_at <= now + interval:  # later: the clock was set back
            return True
        self._beat_at = now + interval
        # The client reconnects in silence, perhaps to a server that came back with an older state of our list.
        self._rescan = True
        try:
            self.lists.beat(self._alive.total_seconds())
            given = self.lists.clear_dead()
        except ListsAway as away:
            self._back_off(now, away)
            return False
        if given:
            self._log.warning("ingress.dead_cleared", payloads=given)
        return True

    def _resting(self, now: datetime) -> float:
        """Seconds until a backoff is over. None is longer than the longest: the clock was set back during that one."""
        seconds = 0.0 if self._resume_at is None else (self._resume_at - now).total_seconds()
        return seconds if 0.0 < seconds <= LONGEST_BACKOFF else 0.0

    def _back_off(self, now: datetime, away: Exception) -> None:
        self._rescan = True
        self._failures += 1
        full = min(LONGEST_BACKOFF, 0.25 * 2.0 ** min(self._failures, 16))
        seconds = full * (0.5 + 0.5 * self._draw())
        self._resume_at = now + timedelta(seconds=seconds)
        self._log.warning("ingress.away", what=type(away).__name__, reason=str(away), again_in=round(seconds, 2))

    def _tell(self, arrival: Arrival, admission: Admission | None) -> None:
        if admission is None:
            return
        refused = isinstance(arrival, NewJob) and len(arrival.events) > 1
        tell = self._log.warning if refused or admission.verdict is Verdict.DEAD else self._log.info
        tell("ingress.admitted", job_id=admission.job_id, verdict=str(admission.verdict), reason=admission.reason)
