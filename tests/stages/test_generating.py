"""Generating: told once, started when the device starts, nothing drawn twice, and the device never left busy."""

from collections.abc import Callable, Iterator

import pytest

from statemachine import decisions
from statemachine.states import State
from tests.fakes import refused
from tests.stages.house import JOB, House, request
from workers.engines.messages import Alive, Enhance, Failed, FromEngine, Generate, Generated, Progress, Started
from workers.ports import EngineDied
from workers.tools import StageSettings

Order = Generate | Enhance


def ready(house: House) -> House:
    house.admit(request(num_images=3))
    return house


def order(house: House) -> Generate:
    last = house.engine.requests[-1]
    assert isinstance(last, Generate)
    return last


class TestProcessing:
    def test_is_told_once_a_run_before_the_device_starts(self) -> None:
        house = ready(House())
        house.until_done()
        assert [post.told["status"] for post in house.receiver.posts] == ["processing", "completed"]
        assert house.receiver.posts[0].seconds == house.settings.processing_seconds
        assert house.effects.index("receiver.post:after") < house.effects.index("engine.take:before")
        kinds = house.recorder.kinds(JOB)
        assert kinds.index("callback_sent") < kinds.index("stage_started")

    @pytest.mark.parametrize("code", [500, 401, 404, None])
    def test_is_never_tried_again_and_stops_nothing(self, code: int | None) -> None:
        house = ready(House())
        house.receiver.answers = [refused(code)]
        assert house.until_done().state is State.COMPLETED
        assert [post.told["status"] for post in house.receiver.posts] == ["processing", "completed"]
        assert [call.delivered for call in house.job.callbacks] == [False, True]

    def test_is_not_told_where_nobody_listens(self) -> None:
        house = ready(House(settings=StageSettings(callback_configured=False)))
        house.until_done()
        assert house.receiver.posts == []


class TestOrder:
    def test_is_the_request_with_the_enhanced_prompt(self) -> None:
        house = House()
        house.admit(request("video7b_fast_enhanced", solver="unipc", shift=5.0))
        house.until(State.UPLOADING)
        asked = order(house)
        assert asked.prompt == "a heron at dawn, in soft light"
        assert (asked.width, asked.height, asked.frames, asked.steps) == (480, 832, 81, 4)
        assert (asked.solver, asked.shift, asked.negative_prompt) == ("unipc", 5.0, "")
        assert asked.request_id == f"{JOB}:1"

    def test_starts_when_the_device_takes_it_up(self) -> None:
        """The order may lie in the engine behind another: that is waiting, not running."""
        house = ready(House())

        def script(asked: Order) -> Iterator[FromEngine]:
            assert "stage_started" not in house.recorder.kinds(JOB)
            yield Alive(request_id=asked.request_id)
            assert "stage_started" not in house.recorder.kinds(JOB)
            yield Started(request_id=asked.request_id)
            assert house.recorder.kinds(JOB)[-1] == "stage_started"
            yield Failed(request_id=asked.request_id, error_class="permanent", error_type="X", message="m")

        house.engine.script = script
        house.step()
        assert house.job.attempts[-1].device == "cpu"

    def test_progress_is_told_and_is_no_event(self) -> None:
        house = ready(House())
        house.until(State.UPLOADING)
        assert house.recorder.progressed[-1] == {"step": 4, "of": 4, "seconds": 1.0}
        assert "progress" not in house.recorder.kinds(JOB)

    def test_erased_content_ends_the_job_with_the_reason(self) -> None:
        house = ready(House())
        house.recorder.contents[JOB].clear()
        house.until_done()
        assert house.job.error is not None
        assert house.job.error.error_type == "ContentMissing"


class TestResuming:
    def test_goes_on_at_the_last_checkpoint_and_sums_the_device_seconds(self) -> None:
        house = House()
        house.admit(request(steps=7))

        def die(name: str) -> None:
            if house.engine.steps == 5 and name == "engine.step:after":
                house.effect = lambda _: None
                raise EngineDied("engine crashed", "SIGSEGV", started=True)

        house.effect = die
        house.until_done()
        assert order(house).resume_from == "checkpoint_4"
        assert house.engine.steps == 8
        assert house.job.media is not None
        assert house.job.media.device_seconds == 4 + 3
        assert house.recorder.kinds(JOB).count("interrupted") == 1

    def test_a_checkpoint_that_the_engine_discards_counts_for_nothing(self) -> None:
        house = House()
        house.admit(request(steps=7))

        def die(name: str) -> None:
            if house.engine.steps == 5 and name == "engine.step:after":
                house.effect = lambda _: None
                house.engine.discards = True
                raise EngineDied("engine crashed", "SIGSEGV", started=True)

        house.effect = die
        house.until_done()
        assert order(house).resume_from == "checkpoint_4"
        assert "checkpoint_discarded" in house.recorder.kinds(JOB)
        assert house.engine.steps == 5 + 7
        assert house.job.media is not None
        assert house.job.media.device_seconds == 7

    def test_the_last_two_checkpoints_are_kept(self) -> None:
        """An older one goes only after the newer one's event was committed: until then the job would need it."""
        house = House()
        house.admit(request(steps=9))
        seen = []

        def look(name: str) -> None:
            if name == "spool.discard:before":
                seen.append(house.recorder.kinds(JOB)[-1])
                there = sorted(name for _, name in house.spool.files if name.startswith("checkpoint"))
                assert len(there) == 3

        house.effect = look
        house.until_done()
        assert seen == ["checkpointed", "checkpointed"]

    def test_two_deaths_are_summed_and_told_as_one_generation(self) -> None:
        house = House()
        house.admit(request(steps=7))
        deaths = [3, 6]

        def die(name: str) -> None:
            if name == "engine.step:after" and deaths and house.engine.steps == deaths[0]:
                deaths.pop(0)
                raise EngineDied("engine crashed", "SIGSEGV", started=True)

        house.effect = die
        house.until_done()
        assert order(house).resume_from == "checkpoint_4"
        assert house.job.media is not None
        assert house.job.media.device_seconds == 2 + 2 + 3
        assert [post.told["status"] for post in house.receiver.posts] == ["processing", "completed"]

    def test_what_is_uploaded_is_not_drawn_again_though_the_spool_has_lost_it(self) -> None:
        house = ready(House())

        def lose(name: str) -> None:
            if house.recorder.kinds(JOB)[-1] == "asset_uploaded" and name == "recorder.record:after":
                house.effect = lambda _: None
                del house.spool.files[JOB, "asset_0.png"], house.spool.files[JOB, "asset_1.png"]

        house.effect = lose
        house.until_done()
        assert order(house).done == [0, 2]
        assert house.bucket.puts == house.bucket.keys()

    @pytest.mark.parametrize("spoil", [lambda data: None, lambda data: data[:-1]], ids=["lost", "another file"])
    @pytest.mark.parametrize(("spoilt", "goes_on_at"), [([4], "checkpoint_2"), ([4, 2], None)])
    def test_a_checkpoint_that_is_not_what_the_history_says_is_not_used(
        self, spoilt: list[int], goes_on_at: str | None, spoil: Callable[[bytes], bytes | None]
    ) -> None:
        """The one before it is, and where that is no better denoising begins anew."""
        calm = House()
        calm.admit(request(steps=7))
        calm.until_done()
        house = House()
        house.admit(request(steps=7))

        def die(name: str) -> None:
            if house.engine.steps == 5 and name == "engine.step:after":
                house.effect = lambda _: None
                for step in spoilt:
                    left = spoil(house.spool.files.pop((JOB, f"checkpoint_{step}")))
                    if left is not None:
                        house.spool.files[JOB, f"checkpoint_{step}"] = left
                raise EngineDied("engine crashed", "SIGSEGV", started=True)

        house.effect = die
        house.until_done()
        assert order(house).resume_from == goes_on_at
        assert house.recorder.kinds(JOB).count("checkpoint_discarded") == len(spoilt)
        assert house.bucket.objects == calm.bucket.objects

    def test_only_what_is_missing_is_drawn(self) -> None:
        house = ready(House())

        def die(name: str) -> None:
            if house.engine.drawn == [0, 1] and name == "recorder.record:after":
                house.effect = lambda _: None
                house.spool.files.pop((JOB, "asset_0.png"))
                raise EngineDied("engine hung", "no sign of life", started=True)

        house.effect = die
        house.until_done()
        assert order(house).done == [1]
        assert house.engine.drawn == [0, 1, 0, 2]

    def test_an_engine_that_forgets_assets_is_not_believed(self) -> None:
        house = ready(House())

        def script(asked: Order) -> Iterator[FromEngine]:
            yield Started(request_id=asked.request_id)
            yield Generated(
                request_id=asked.request_id,
                device_seconds=1.0,
                engine="fake",
                model_digest="d",
                memory={},
                versions={},
                threads=1,
                batches=[3],
            )

        house.engine.script = script
        house.until_done()
        assert house.job.state is State.FAILED
        assert house.job.error is not None
        assert house.job.error.error_type == "AssetsMissing"


def failing(error_class: str, message: str, *, budget: int | None = None) -> Callable[[Order], Iterator[FromEngine]]:
    def script(asked: Order) -> Iterator[FromEngine]:
        yield Started(request_id=asked.request_id)
        yield Failed(
            request_id=asked.request_id, error_class=error_class, error_type="Kind", message=message, budget=budget
        )

    return script


class TestFailing:
    @pytest.mark.parametrize(
        ("error_class", "said", "told"),
        [
            ("permanent", "NaN", "Generation failed: NaN"),
            ("permanent", "Invalid parameters: seed", "Invalid parameters: seed"),
            ("device_memory", "Insufficient VRAM for generation", "Insufficient VRAM for generation"),
            ("device_memory", "2 GiB", "Insufficient VRAM for generation: 2 GiB"),
            ("transient", "busy", "Generation failed: busy"),
        ],
    )
    def test_ends_in_the_specifications_words(self, error_class: str, said: str, told: str) -> None:
        house = ready(House())
        house.engine.script = failing(error_class, said)
        house.until_done()
        assert house.receiver.posts[-1].told["error_message"] == told
        assert house.receiver.posts[-1].told["metadata"]["error_type"] == "Kind"
        tries = {"permanent": 1, "device_memory": 2, "transient": 10}[error_class]
        assert len(house.engine.requests) == tries

    def test_an_engine_may_ask_for_fewer_tries(self) -> None:
        house = ready(House())
        house.engine.script = failing("transient", "the script ended with code 1", budget=3)
        house.until_done()
        assert house.job.state is State.FAILED
        assert len(house.engine.requests) == 3

    def test_a_misconfiguration_pauses_the_lane_and_burns_no_job(self) -> None:
        house = ready(House())
        house.engine.script = failing("misconfiguration", "the model is not there")
        for _ in range(15):
            house.step()
        assert house.job.state is State.GENERATING
        assert house.lane.paused(house.clock.now())

    def test_a_death_before_the_device_took_it_up_costs_nothing(self) -> None:
        house = ready(House())

        def die(name: str) -> None:
            if name == "engine.take:after":
                house.effect = lambda _: None
                raise EngineDied("engine crashed", "exit code 1", started=False)

        house.effect = die
        house.until_done()
        assert "interrupted" not in house.recorder.kinds(JOB)

    def test_a_job_that_kills_the_engine_three_times_is_poison(self) -> None:
        house = ready(House())

        def die(name: str) -> None:
            if name == "engine.step:after":
                raise EngineDied("engine crashed", "SIGSEGV", started=True)

        house.effect = die
        house.until_done()
        assert house.job.error is not None
        assert house.job.error.error_type == "Poison"
        assert len(house.engine.requests) == 3

    def test_an_engine_that_was_ended_for_another_request_costs_no_attempt(self) -> None:
        """It was on the device too, being encoded perhaps, when somebody else's job did not stop."""
        house = ready(House())

        def die(name: str) -> None:
            if name == "engine.step:after":
                raise EngineDied("engine hung", "did not stop within 30 s", started=True, blameless=True)

        house.effect = die
        for _ in range(4):
            house.step()
        assert [attempt.counts for attempt in house.job.attempts] == [False] * 4
        house.effect = lambda _: None
        house.until_done()
        assert house.job.state == "completed"


class TestStopping:
    def test_a_worker_that_lost_its_lease_leaves_the_device_free(self) -> None:
        house = ready(House())

        def pass_on(name: str) -> None:
            if name == "engine.checkpoint:after":
                house.effect = lambda _: None
                house.recorder.claim(JOB, worker="another")

        house.effect = pass_on
        house.step()
        assert house.engine.cancelled == [f"{JOB}:1"]
        assert "checkpointed" not in house.recorder.kinds(JOB)
        assert house.job.worker_id == "another"

    def test_a_lease_that_is_lost_before_begins_nothing(self) -> None:
        house = ready(House())
        old = house.recorder.claim(JOB)
        house.recorder.claim(JOB, worker="another")
        house.lane.run(old)
        assert (house.receiver.posts, house.engine.requests) == ([], [])

    def test_a_cancelled_job_ends_at_its_next_record(self) -> None:
        house = ready(House())

        def cancel(name: str) -> None:
            if name == "engine.checkpoint:after":
                house.effect = lambda _: None
                house.recorder.write(JOB, *decisions.cancel(house.job, by="cli", reason="no more"))

        house.effect = cancel
        house.until_done()
        assert house.engine.cancelled == [f"{JOB}:1"]
        assert house.engine.drawn == []
        assert house.job.state is State.CANCELLED
        assert house.receiver.posts[-1].told["error_message"] == "no more"

    def test_a_request_that_was_stopped_from_outside_costs_no_attempt(self) -> None:
        house = ready(House())

        def script(asked: Order) -> Iterator[FromEngine]:
            yield Started(request_id=asked.request_id)
            yield Progress(request_id=asked.request_id, step=1, of=4, seconds=1.0)
            house.engine.script = None
            yield Failed(request_id=asked.request_id, error_class="cancelled", error_type="Cancelled", message="m")

        house.engine.script = script
        house.step()
        assert (house.job.worker_id, house.job.attempts[-1].counts) == (None, False)
        assert house.until_done().state is State.COMPLETED

    def test_stopped_after_somebody_cancelled_ends_the_job_without_another_turn(self) -> None:
        house = ready(House())

        def script(asked: Order) -> Iterator[FromEngine]:
            yield Started(request_id=asked.request_id)
            house.recorder.write(JOB, *decisions.cancel(house.job, by="cli", reason="no more"))
            yield Failed(request_id=asked.request_id, error_class="cancelled", error_type="Cancelled", message="m")

        house.engine.script = script
        assert house.until_done().state is State.CANCELLED
        assert house.recorder.kinds(JOB).count("claimed") == 1
