"""One worker on fakes: the real handlers in a real lane, run by hand."""

from collections.abc import Callable
from typing import Any

import msgspec

from statemachine import decisions
from statemachine import events as e
from statemachine.job import Job
from statemachine.states import State
from tests.fake_recorder import FakeRecorder
from tests.fakes import Effect, FakeClock, FakeEngine, FakeReferences, MemoryBucket, MemorySpool, ScriptedReceiver
from workers.lane import Lane
from workers.ports import References
from workers.presets import PRESETS
from workers.request import Reference, Request
from workers.stages import HANDLERS
from workers.tools import StageSettings, Tools

JOB = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
USER = "11111111-2222-4333-8444-555555555555"
WORKER = "w1"


def request(job_type: str = "sdxl_image_fast", **changes: Any) -> Request:
    """A resolved request of that type; four steps, so that a test is quick."""
    preset = PRESETS[job_type]
    wan = preset.family == "wan"
    plain = Request(
        job_type=job_type,
        family=preset.family,
        media=preset.media,
        extension=preset.extension,
        bucket=preset.bucket,
        model=preset.model,
        user_id=USER,
        width=preset.width,
        height=preset.height,
        steps=4,
        guidance_scale=preset.guidance_scale,
        seed=7,
        num_images=1,
        frame_num=preset.frame_num,
        frames=preset.frames,
        enhance=preset.enhance,
        expected_time=8.0,
        prompt="a heron at dawn",
        task="t2v-1.3B" if wan else None,
        negative_prompt=None if wan else "blurry",
    )
    return msgspec.structs.replace(plain, **changes)


def with_reference(job_type: str = "sdxl_image_fast", **changes: Any) -> Request:
    """One that asks for a reference."""
    held: dict[str, Any] = {
        "references": [Reference("single", "https://host/ref.png")],
        "reference_mode": "single",
        "reference_strength": 0.5,
        "reference_type": "style",
    }
    return request(job_type, **held | changes)


def from_start_to_end(job_type: str = "video_fast", **changes: Any) -> Request:
    """One that asks for two."""
    both = [Reference("start", "https://host/start.png"), Reference("end", "https://host/end.png")]
    held: dict[str, Any] = {"references": both, "reference_mode": "both", "reference_strength": 0.8}
    return with_reference(job_type, **held | changes)


class House:
    """All ports as fakes; `effect` is called around each of their effects."""

    def __init__(self, *, settings: StageSettings | None = None) -> None:
        self.effect: Effect = lambda name: None
        self.effects: list[str] = []
        self.clock = FakeClock()
        self.spool = MemorySpool(self._noted)
        self.bucket = MemoryBucket(self._noted)
        self.receiver = ScriptedReceiver(effect=self._noted)
        self.web = FakeReferences(self._noted)
        self.references: References = self.web
        self.engine = FakeEngine(self.spool, self._noted)
        self.recorder = FakeRecorder(self.clock, self._noted)
        self.settings = settings or StageSettings()
        self.lane = self._lane()

    def _noted(self, name: str) -> None:
        self.effects.append(name)
        self.effect(name)

    def admit(self, asked: Request, *, job_id: str = JOB) -> Job:
        """A job as ingress writes it."""
        queued = e.JobQueued(
            payload_digest="p" * 64,
            job_type=asked.job_type,
            user_id=asked.user_id,
            queue="",
            source="test",
            stages=asked.stages,
            model=asked.model,
            seed=asked.seed,
            request=asked.history,
        )
        return self.recorder.admit(job_id, [queued], asked.content)

    def tools(self, job: Job) -> Tools:
        return Tools(
            job=job,
            recorder=self.recorder,
            clock=self.clock,
            spool=self.spool,
            bucket=self.bucket,
            receiver=self.receiver,
            references=self.references,
            engine=self.engine,
            settings=self.settings,
            draw=lambda: 0.0,
        )

    @property
    def job(self) -> Job:
        return self.recorder.jobs[JOB]

    def step(self) -> Job:
        """Wait as long as the job has to, claim it unless it is held, and run the stage that is due."""
        job = self.job
        if job.resume_at is not None:
            self.clock.advance(max(0.0, (job.resume_at - self.clock.now()).total_seconds()))
        self.lane.run(job if job.worker_id == WORKER else self.recorder.claim(job.id, worker=WORKER))
        return self.job

    def until(self, state: State) -> Job:
        """Run stages until the job is in `state`."""
        return self.until_that(lambda job: job.state is state)

    def until_done(self) -> Job:
        """Run stages until the job has ended."""
        return self.until_that(lambda job: job.state.terminal)

    def until_that(self, reached: Callable[[Job], bool]) -> Job:
        for _ in range(40):
            if reached(self.job):
                return self.job
            self.step()
        raise AssertionError(f"still {self.job.state} after 40 stages: {self.recorder.kinds(JOB)}")

    def crash(self) -> None:
        """What a dead worker leaves: its files, and a lease that the supervisor ends."""
        self.effect = lambda name: None
        self.engine.restart()
        self.lane = self._lane()
        if self.job.worker_id is not None and not self.job.state.terminal:
            lost = decisions.interrupt(self.job, reason="lease expired", by="supervisor", now=self.clock.now())
            self.recorder.write(JOB, *lost)

    def _lane(self) -> Lane:
        return Lane(
            "all",
            HANDLERS,
            slots=1,
            tools_for=self.tools,
            hand_on=lambda job: None,
            let_go=lambda job: None,
            worker_id=WORKER,
        )
