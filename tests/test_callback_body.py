"""The JSON that the receiver gets, key by key, and that it is the same each time."""

import json
from datetime import timedelta
from typing import Any

import pytest

from statemachine import decisions
from statemachine import events as e
from statemachine.job import Job
from statemachine.states import Outcome, State
from tests.fake_recorder import FakeRecorder
from tests.fakes import FakeClock, FakeEngine, refused
from tests.stages.house import JOB, USER, House, request, with_reference
from workers.callback import body, callback_id, outcome_status
from workers.errors import GiveUp
from workers.request import Request
from workers.tools import StageSettings


def finished(asked: Request, house: House | None = None) -> House:
    house = house or House()
    house.admit(asked)
    house.until_done()
    return house


def told(house: House) -> dict[str, Any]:
    return house.receiver.posts[-1].told


def written(job: Job, content: dict[str, Any] | None = None) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(body(job, content or {}, outcome_status(job)))
    return whole


class TestCompleted:
    def test_sdxl(self) -> None:
        house = finished(request(num_images=3, seed=2**63 - 1))
        assert told(house) == {
            "job_id": JOB,
            "status": "completed",
            "assets": [f"{USER}/{JOB}_{n}.png" for n in range(3)],
            "error_message": None,
            "metadata": {
                "job_type": "sdxl_image_fast",
                "reference_mode": "none",
                "seed": 2**63 - 1,
                "num_images": 3,
                "content_type": "image",
                "frame_num": 1,
                "frames": 1,
                "expected_time": 8.0,
                "generation_time": 4.0,
                "performance_ratio": 0.5,
                "total_time": 0.0,
                "render_scale": "1/8",
            },
        }

    def test_wan_enhanced_video(self) -> None:
        house = finished(request("video7b_fast_enhanced"))
        whole = told(house)
        assert whole["enhancedPrompt"] == "a heron at dawn, in soft light"
        assert whole["assets"] == [f"{USER}/{JOB}_0.mp4"]
        assert whole["metadata"]["wan_task"] == "t2v-1.3B"
        assert whole["metadata"]["content_type"] == "video"
        assert (whole["metadata"]["frame_num"], whole["metadata"]["frames"]) == (83, 81)

    def test_memory_is_told_only_where_there_is_a_gpu(self) -> None:
        house = House()
        house.engine = FakeEngine(house.spool, memory={"vram_used_gb": 12.0, "vram_total_gb": 48.0, "peak_rss_gb": 1.0})
        metadata = told(finished(request(), house))["metadata"]
        assert (metadata["vram_used_gb"], metadata["vram_total_gb"], metadata["vram_utilization"]) == (12.0, 48.0, 0.25)
        assert not any(key.startswith("vram") for key in told(finished(request()))["metadata"])

    def test_total_time_runs_from_ingress_to_the_outcome(self) -> None:
        house = House()
        house.admit(request())
        house.clock.advance(12.5)
        house.until(State.CALLBACK)
        house.clock.advance(100)
        house.until_done()
        assert told(house)["metadata"]["total_time"] == 12.5

    def without_its_reference(self) -> House:
        house = House(settings=StageSettings(on_missing_reference="generate_without"))
        house.web.ends = {"https://host/ref.png": [GiveUp("host answered 404")] * 2}
        return house

    def test_what_was_degraded_is_told_and_no_reference_is_claimed(self) -> None:
        house = finished(with_reference(), self.without_its_reference())
        metadata = told(house)["metadata"]
        assert [entry["what"] for entry in metadata["degraded"]] == ["references"]
        assert metadata["reference_mode"] == "single"
        assert "reference_image_url" not in metadata

    def test_a_second_run_does_not_tell_the_same_degradation_twice(self) -> None:
        house = finished(with_reference(), self.without_its_reference())
        house.recorder.write(JOB, *decisions.requeue(house.job, by="cli", reason="again"))
        house.until_done()
        assert len(told(house)["metadata"]["degraded"]) == 1

    def test_a_reference_that_was_used_is_told(self) -> None:
        asked, clock = with_reference(), FakeClock()
        recorder = FakeRecorder(clock)
        queued = e.JobQueued(
            payload_digest="",
            job_type=asked.job_type,
            user_id=USER,
            queue="",
            source="test",
            stages=asked.stages,
            request=asked.history,
        )
        recorder.admit(JOB, [queued], asked.content)
        job = recorder.claim(JOB)
        job = recorder.record(job, [e.RefsFetched(references=[{"role": "single", "digest": "d"}])])
        job = recorder.record(job, [e.OutcomeDecided(outcome="failed", error_class="x", error_type="X", message="m")])
        metadata = written(job, asked.content)["metadata"]
        assert metadata["reference_image_url"] == "https://host/ref.png"
        assert (metadata["reference_strength"], metadata["reference_type"]) == (0.5, "style")

    def test_urls_are_told_where_that_is_asked(self) -> None:
        house = finished(request(num_images=2), House(settings=StageSettings(asset_urls="public")))
        url = f"https://storage/public/sdxl_image_fast/{USER}/{JOB}"
        assert told(house)["assets"] == [f"{url}_0.png", f"{url}_1.png"]


class TestFailed:
    def failed(self, job_type: str) -> Job:
        house = House()
        house.admit(request(job_type))
        job = house.recorder.claim(JOB)
        house.clock.advance(5)
        wrong = decisions.give_up(
            job,
            error_class="permanent",
            error_type="OutOfMemory",
            message="Insufficient VRAM for generation",
            now=house.clock.now(),
        )
        return house.recorder.record(job, wrong)

    def test_sdxl(self) -> None:
        assert written(self.failed("sdxl_image_high")) == {
            "job_id": JOB,
            "status": "failed",
            "assets": [],
            "error_message": "Insufficient VRAM for generation",
            "metadata": {
                "job_type": "sdxl_image_high",
                "reference_mode": "none",
                "error_type": "OutOfMemory",
                "error_timestamp": "2025-07-16T12:00:05+00:00",
                "worker_version": "1.2.3",
            },
        }

    def test_wan_tells_its_task(self) -> None:
        assert written(self.failed("video_high"))["metadata"]["wan_task"] == "t2v-1.3B"

    @pytest.mark.parametrize("job_type", ["sdxl_image_fast", "video_fast", None])
    def test_refused_without_a_request(self, job_type: str | None) -> None:
        """Its owner hears of it, though nothing of it could be resolved."""
        recorder = FakeRecorder(FakeClock())
        queued = e.JobQueued(
            payload_digest="p", job_type=job_type, user_id=None, queue="sdxl_queue", source="redis", stages=[]
        )
        wrong = e.OutcomeDecided(
            outcome=Outcome.FAILED,
            error_class="permanent",
            error_type="InvalidPayload",
            message="Invalid parameters: x",
        )
        whole = written(recorder.admit(JOB, [queued, wrong]))
        assert (whole["status"], whole["assets"], whole["error_message"]) == ("failed", [], "Invalid parameters: x")
        assert whole["metadata"]["error_type"] == "InvalidPayload"
        assert whole["metadata"]["reference_mode"] == "none"
        assert whole["metadata"].get("job_type") == job_type
        assert ("wan_task" in whole["metadata"]) == (job_type == "video_fast")


class TestCancelled:
    def test_is_told_as_failed_and_keeps_its_reason_over_the_tries(self) -> None:
        """A callback that must be tried again overwrites the job's last error; the receiver still hears the reason."""
        house = House()
        house.admit(request())
        house.recorder.write(JOB, *decisions.cancel(house.job, by="cli", reason="changed my mind"))
        house.receiver.answers = [refused(503), refused(None)]
        job = house.until_done()
        assert job.state is State.CANCELLED
        assert len(house.receiver.posts) == 3
        assert len({post.body for post in house.receiver.posts}) == 1
        whole = told(house)
        assert (whole["status"], whole["error_message"]) == ("failed", "changed my mind")
        assert whole["metadata"]["error_type"] == "Cancelled"


class TestProcessing:
    def test_says_what_will_be_made(self) -> None:
        whole = finished(request("video_fast")).receiver.posts[0].told
        assert (whole["status"], whole["assets"], whole["error_message"]) == ("processing", [], None)
        assert whole["metadata"] == {
            "job_type": "video_fast",
            "wan_task": "t2v-1.3B",
            "reference_mode": "none",
            "seed": 7,
            "num_images": 1,
            "content_type": "video",
            "frame_num": 83,
            "expected_time": 8.0,
        }


class TestSameEachTime:
    def test_a_repeat_has_the_same_id_and_body_however_late(self) -> None:
        house = House()
        house.admit(request(num_images=3))
        house.receiver.answers = [refused(500, accepted=True)] * 4
        house.until(State.CALLBACK)
        house.clock.advance(timedelta(hours=5).total_seconds())
        house.until_done()
        outcomes = [post for post in house.receiver.posts if post.id.endswith(":completed")]
        assert len(outcomes) == 4
        assert len({post.id for post in outcomes}) == len({post.body for post in outcomes}) == 1

    def test_another_run_has_another_id(self) -> None:
        house = finished(request())
        house.recorder.write(JOB, *decisions.requeue(house.job, by="cli", reason="again"))
        house.until_done()
        ids = [post.id for post in house.receiver.posts]
        assert ids == [f"{JOB}:{run}:{status}" for run in (1, 2) for status in ("processing", "completed")]

    def test_ids_name_the_job_the_run_and_the_status(self) -> None:
        assert callback_id(Job(id=JOB, run=3), "failed") == f"{JOB}:3:failed"

    def test_what_was_erased_is_left_out(self) -> None:
        house = finished(request("image7b_fast_enhanced"))
        assert "enhancedPrompt" not in written(house.job)

    def test_any_text_survives(self) -> None:
        message = 'a "quote" \x00 \ud800 東京 🦊'
        recorder = FakeRecorder(FakeClock())
        queued = e.JobQueued(payload_digest="p", job_type=None, user_id=None, queue="", source="redis", stages=[])
        recorder.admit(JOB, [queued])
        wrong = e.OutcomeDecided(outcome="failed", error_class="permanent", error_type="X", message="m")
        job = recorder.write(JOB, wrong)
        assert job.error is not None
        odd = Job(
            id=JOB, outcome=Outcome.FAILED, error=type(job.error)(error_class="x", error_type="X", message=message)
        )
        assert written(odd)["error_message"] == message

    def test_a_run_that_skipped_the_enhancer_does_not_tell_an_older_text(self) -> None:
        house = finished(request("image7b_fast_enhanced"))
        house.recorder.write(JOB, *decisions.requeue(house.job, by="cli", reason="again"))
        house.engine = FakeEngine(house.spool, can_enhance=False)
        house.until_done()
        assert "enhancedPrompt" in house.receiver.posts[1].told
        assert "enhancedPrompt" not in told(house)
