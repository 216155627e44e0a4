"""One trial: a system under load, with a fault in the middle or with none."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks.queues.faults import Fault, Target
from benchmarks.queues.systems import System
from ourvidz.loopback_receiver import LoopbackReceiver

BEFORE_SECONDS: Final = 10.0
AFTER_SECONDS: Final = 12.0
LOST_SECONDS: Final = 60.0
"""A job is lost that has not ended when none has for so long: a system that is slow to catch up has lost nothing."""
LINGER_SECONDS: Final = 3.0
"""Who tells an outcome twice may do it when all are told."""
WARM_JOBS: Final = 6
WARM_SECONDS: Final = 90.0
LOOK_SECONDS: Final = 0.02
OUTCOMES: Final = frozenset({"completed", "failed"})


class TrialFailed(Exception):
    """The system did not come so far that it could be measured."""


@dataclass(frozen=True)
class Told:
    """One outcome that arrived. Times are those of this host, in seconds."""

    job_id: str
    status: str
    at: float


@dataclass
class Story:
    """What was seen. `accepted` is job → when its push returned; `waits` how long each push took."""

    begun: float
    accepted: dict[str, float] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    fault_began: float | None = None
    fault_ended: float | None = None
    outcomes: list[Told] = field(default_factory=list)
    steps: list[tuple[str, int]] = field(default_factory=list)


class Producer:
    """Pushes `jobs` ids, evenly over `seconds`, in a thread of its own; a push that waits delays those behind it."""

    def __init__(self, system: System, story: Story, jobs: int, seconds: float) -> None:
        self._system = system
        self._story = story
        self._jobs = jobs
        self._seconds = seconds
        self._thread = threading.Thread(target=self._push, name="producer", daemon=True)
        self._thread.start()

    @property
    def pushing(self) -> bool:
        """Something is not accepted yet, or not even pushed."""
        return self._thread.is_alive()

    def _push(self) -> None:
        begun = time.monotonic()
        for number in range(self._jobs):
            time.sleep(max(0.0, begun + self._seconds * number / self._jobs - time.monotonic()))
            job_id, asked = str(uuid.uuid4()), time.time()
            try:
                self._system.push(job_id)
            except OSError:
                return  # the trial is over, and its producer gone
            self._story.accepted[job_id] = time.time()
            self._story.waits.append(time.time() - asked)


class Trial:
    """`system` is fresh; `receiver` hears this trial alone."""

    def __init__(self, system: System, receiver: LoopbackReceiver) -> None:
        self._system = system
        self._receiver = receiver

    def under(self, fault: Fault, target: Target, *, jobs_a_second: float) -> Story:
        """Load before, while and after the fault lasts, then until all have ended or are lost."""
        self._warm()
        seconds = BEFORE_SECONDS + fault.seconds + AFTER_SECONDS
        story = Story(time.time())
        producer = Producer(self._system, story, round(jobs_a_second * seconds), seconds)
        self._wait(BEFORE_SECONDS)
        story.fault_began = time.time()
        for pause in fault.strike(target):
            self._wait(pause)
        story.fault_ended = time.time()
        self._settle(story, producer)
        return story

    def alone(self, *, jobs: int) -> Story:
        """All jobs at once and no fault."""
        self._warm()
        story = Story(time.time())
        self._settle(story, Producer(self._system, story, jobs, 0.0))
        return story

    def _warm(self) -> None:
        """Until every worker has had something to do, nothing counts."""
        story = Story(time.time())
        producer = Producer(self._system, story, WARM_JOBS, 0.0)
        if not self._until(lambda: not producer.pushing and self._ended(story), WARM_SECONDS):
            raise TrialFailed(f"{len(story.accepted)} jobs were accepted and did not all end in {WARM_SECONDS:g} s")

    def _settle(self, story: Story, producer: Producer) -> None:
        def settled() -> bool:
            return not producer.pushing and self._ended(story)

        heard = -1
        while not self._until(settled, LOST_SECONDS) and heard != self._receiver.requests:
            heard = self._receiver.requests
        self._wait(LINGER_SECONDS)
        story.outcomes = [told for told in self._told() if told.job_id in story.accepted]
        story.steps = [made for made in self._system.steps() if made[0] in story.accepted]

    def _ended(self, story: Story) -> bool:
        return set(story.accepted) <= {told.job_id for told in self._told()}

    def _told(self) -> Iterator[Told]:
        for delivery in self._receiver.deliveries:
            if delivery.body["status"] in OUTCOMES:
                yield Told(delivery.body["job_id"], delivery.body["status"], delivery.time)

    def _wait(self, seconds: float) -> None:
        self._until(lambda: False, seconds)

    def _until(self, true: Callable[[], bool], seconds: float) -> bool:
        """Look after the system until something is true; False where it was not within `seconds`."""
        until = time.monotonic() + seconds
        while not (found := true()) and time.monotonic() < until:
            self._system.look()
            time.sleep(LOOK_SECONDS)
        return found
