"""Fetching references: what is asked for is drawn with, or the job says why not."""

import errno
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from statemachine import decisions
from statemachine.admission import NewJob
from statemachine.events import RefsFetched
from statemachine.states import State
from tests.stages.house import JOB, House, from_start_to_end, request, with_reference
from workers.arrivals import read
from workers.engines.messages import Enhance, Failed, FromEngine, Generate, ReferenceFile, Started
from workers.errors import GiveUp, Misconfigured, StageEnds, TryAgain
from workers.request import Request
from workers.spool import sha256
from workers.stages import HANDLERS
from workers.tools import StageSettings

ONE, START, END = "https://host/ref.png", "https://host/start.png", "https://host/end.png"
WITHOUT = StageSettings(on_missing_reference="generate_without")
PAYLOADS = Path(__file__).parents[1] / "payloads"


def gone() -> GiveUp:
    return GiveUp("host answered 404", error_type="ReferenceRefused")


def busy(retry_after: float | None = None) -> TryAgain:
    return TryAgain("host answered 503", error_type="ReferenceUnreachable", retry_after=retry_after)


def house(asked: Request, settings: StageSettings | None = None, **ends: list[StageEnds]) -> House:
    """A job that asks for references; `ends` are met, by role, before its picture comes."""
    made = House(settings=settings)
    made.admit(asked)
    urls = {reference.role: reference.url for reference in asked.references}
    made.web.ends = {urls[role]: met for role, met in ends.items()}
    return made


def order(made: House) -> Generate:
    last = made.engine.requests[-1]
    assert isinstance(last, Generate)
    return last


def failure(made: House) -> tuple[str, str]:
    assert made.job.state is State.FAILED
    assert made.job.error is not None
    return made.job.error.error_type, made.job.error.message


def told(made: House) -> dict[str, Any]:
    whole: dict[str, Any] = made.receiver.posts[-1].told
    return whole


def degraded(made: House) -> list[str]:
    return [entry["why"] for entry in told(made)["metadata"].get("degraded", []) if entry["what"] == "references"]


def requeue(made: House, stage: State | None) -> None:
    made.recorder.write(JOB, *decisions.requeue(made.job, by="cli", reason="again", stage=stage))


class TestWhatComes:
    def test_is_in_the_spool_in_the_history_and_in_the_engines_order(self) -> None:
        made = house(from_start_to_end())
        job = made.until(State.GENERATING)
        assert [known["role"] for known in job.references] == ["start", "end"]
        for known in job.references:
            data = made.spool.read(JOB, f"reference_{known['role']}.png", known["digest"])
            assert data.startswith(b"\x89PNG")
            assert known == {
                "role": known["role"],
                "host": "host",
                "bytes": len(f"https://host/{known['role']}.png 1"),
                "width": 6,
                "height": 4,
                "name": f"reference_{known['role']}.png",
                "digest": sha256(data),
                "source_digest": sha256(f"https://host/{known['role']}.png 1".encode()),
                "notes": ["transparency became white"],
            }
        made.until(State.UPLOADING)
        asked = order(made)
        assert asked.references == [
            ReferenceFile(role=known["role"], name=known["name"], digest=known["digest"]) for known in job.references
        ]
        assert (asked.reference_strength, asked.reference_type, asked.reference_fit) == (
            0.8,
            "style",
            made.settings.reference_fit,
        )

    def test_is_asked_for_together(self) -> None:
        made = house(from_start_to_end())
        made.until(State.GENERATING)
        assert made.web.asked == [[START, END]]

    def test_is_told_in_the_callback(self) -> None:
        made = house(from_start_to_end())
        made.until_done()
        metadata = told(made)["metadata"]
        assert (metadata["reference_mode"], metadata["reference_way"]) == ("both", "fake")
        assert (metadata["reference_image_url"], metadata["reference_strength"]) == (START, 0.8)
        assert "degraded" not in metadata

    def test_no_url_stands_in_the_history(self) -> None:
        made = house(from_start_to_end(), start=[busy()], end=[gone()])
        made.until_done()
        assert not any("//host" in stored.data or ".png?" in stored.data for stored in made.recorder.history[JOB])

    @pytest.mark.parametrize("fit", ["letterbox", "crop"])
    def test_is_brought_to_the_jobs_shape_as_the_operator_says(self, fit: Literal["letterbox", "crop"]) -> None:
        made = house(with_reference(), StageSettings(reference_fit=fit))
        made.until(State.UPLOADING)
        assert order(made).reference_fit == fit

    def test_a_stage_without_any_asks_nobody(self) -> None:
        made = house(request())
        job = made.recorder.claim(JOB)
        assert HANDLERS[State.FETCHING_REFS](job, made.tools(job)) == [RefsFetched(references=[])]
        assert made.web.asked == []

    def test_an_engine_that_left_it_out_claims_no_reference(self) -> None:
        made = house(with_reference())
        made.engine.heeds_references = False
        assert made.until_done().state is State.COMPLETED
        assert not {"reference_image_url", "reference_strength", "reference_way"} & told(made)["metadata"].keys()


@pytest.mark.parametrize(
    ("name", "roles", "strength", "kind"),
    [
        ("sdxl_high_character_ref", ["single"], 0.85, "character"),
        ("wan_video_high_single_ref", ["single"], 0.9, "character"),
        ("wan_video_high_both", ["start", "end"], 0.5, "character"),
    ],
)
def test_what_the_producer_pushes_reaches_the_engine(name: str, roles: list[str], strength: float, kind: str) -> None:
    pushed = json.loads((PAYLOADS / f"{name}.json").read_text())
    now = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
    raw = json.dumps(pushed["body"]).encode()
    new = read(raw, queue=pushed["queue"], source="redis", now=now, draw_seed=lambda: 5)
    assert isinstance(new, NewJob)
    made = House()
    made.recorder.admit(JOB, list(new.events), new.content)
    made.until_done()
    config = pushed["body"]["config"]
    urls = [config[field] for field in ("reference_image_url", "first_frame", "last_frame") if field in config]
    assert made.web.asked == [urls]
    asked = order(made)
    assert [reference.role for reference in asked.references] == roles
    assert (asked.reference_strength, asked.reference_type) == (strength, kind)
    metadata = told(made)["metadata"]
    assert metadata["reference_mode"] == ("both" if len(roles) == 2 else "single")
    assert (metadata["reference_image_url"], metadata["reference_strength"], metadata["reference_type"]) == (
        urls[0],
        strength,
        kind,
    )


class TestUnderTheLease:
    def test_it_is_renewed_and_bounds_the_fetch(self) -> None:
        made = house(with_reference())
        made.step()
        assert made.effects[made.effects.index("references.fetch:before") - 1] == "recorder.renew:after"
        assert made.web.seconds == [pytest.approx(24.0)]  # 0.8 of the lease, which is shorter than the limit

    def test_a_worker_that_lost_it_fetches_nothing(self) -> None:
        made = house(with_reference())
        old = made.recorder.claim(JOB)
        made.recorder.claim(JOB, worker="another")
        made.lane.run(old)
        assert made.web.asked == []

    def test_one_that_lost_it_meanwhile_writes_no_fact(self) -> None:
        made = house(with_reference())

        def pass_on(name: str) -> None:
            if name == "references.fetch:after":
                made.effect = lambda _: None
                made.recorder.claim(JOB, worker="another")

        made.effect = pass_on
        made.step()
        assert "refs_fetched" not in made.recorder.kinds(JOB)
        assert made.until_done().state is State.COMPLETED


class TestMissing:
    def test_what_is_not_there_fails_the_job_at_once_with_the_reason(self) -> None:
        made = house(with_reference(), single=[gone()])
        made.until_done()
        said = "Generation failed: the reference cannot be used: host answered 404"
        assert failure(made) == ("ReferenceRefused", said)
        assert (told(made)["error_message"], told(made)["metadata"]["error_type"]) == (said, "ReferenceRefused")
        assert "reference_image_url" not in told(made)["metadata"]
        assert len(made.web.asked) == 1
        assert made.engine.requests == []

    def test_what_may_pass_is_tried_again(self) -> None:
        made = house(from_start_to_end(), end=[busy(), busy()])
        assert made.until_done().state is State.COMPLETED
        assert [attempt.outcome for attempt in made.job.tries(State.FETCHING_REFS)] == ["retry", "retry", "succeeded"]
        assert degraded(made) == []

    def test_what_does_not_pass_fails_the_job_when_its_budget_is_used_up(self) -> None:
        made = house(from_start_to_end(), end=[busy()] * 20)
        made.until_done()
        said = "Generation failed: the end reference cannot be used: host answered 503"
        assert failure(made) == ("ReferenceUnreachable", said)
        assert len(made.web.asked) == decisions.POLICIES["transient"].budget

    def test_what_will_never_come_does_not_wait_for_what_may(self) -> None:
        made = house(from_start_to_end(), start=[busy()] * 20, end=[gone()])
        made.until_done()
        assert failure(made)[0] == "ReferenceRefused"
        assert len(made.web.asked) == 1

    def test_a_wait_that_its_server_asks_for_is_kept(self) -> None:
        made = house(with_reference(), single=[busy(retry_after=90.0)])
        made.step()
        assert made.job.resume_at is not None
        assert (made.job.resume_at - made.clock.now()).total_seconds() == 90.0

    @pytest.mark.parametrize("settings", [None, WITHOUT])
    def test_a_set_up_that_has_to_be_mended_burns_no_job(self, settings: StageSettings | None) -> None:
        wrong: list[StageEnds] = [Misconfigured("the key for host must be printable ASCII")] * 12
        made = house(from_start_to_end(), settings, start=wrong, end=[gone()] * 12)
        for _ in range(12):
            made.step()
        assert made.job.state is State.FETCHING_REFS
        assert made.lane.paused(made.clock.now())

    def test_a_spool_that_cannot_be_written_pauses_the_lane(self) -> None:
        made = house(with_reference())

        def full(name: str) -> None:
            if name == "spool.write:before":
                made.effect = lambda _: None
                raise OSError(errno.ENOSPC, "No space left on device")

        made.effect = full
        made.step()
        assert made.job.state is State.FETCHING_REFS
        assert made.lane.pause_reason == "the spool cannot be written: No space left on device"
        assert made.until_done().state is State.COMPLETED

    def test_erased_urls_end_the_job_with_the_reason(self) -> None:
        made = house(with_reference())
        made.recorder.contents[JOB].clear()
        made.until_done()
        assert failure(made)[0] == "ContentMissing"


class TestGeneratingWithout:
    def test_begins_at_once_where_it_will_never_come(self) -> None:
        made = house(with_reference(), WITHOUT, single=[gone()])
        assert made.until_done().state is State.COMPLETED
        assert len(made.web.asked) == 1
        assert order(made).references == []
        assert degraded(made) == ["the reference cannot be used: host answered 404: generated without"]
        metadata = told(made)["metadata"]
        assert metadata["reference_mode"] == "single"
        assert not {"reference_image_url", "reference_strength", "reference_type", "reference_way"} & metadata.keys()

    def test_begins_when_the_budget_is_used_up(self) -> None:
        made = house(with_reference(), WITHOUT, single=[busy()] * 20)
        assert made.until_done().state is State.COMPLETED
        assert len(made.web.asked) == decisions.POLICIES["transient"].budget
        assert degraded(made) == ["the reference cannot be used: host answered 503: generated without"]

    def test_does_not_begin_while_it_may_still_come(self) -> None:
        made = house(with_reference(), WITHOUT, single=[busy()] * 3)
        made.until_done()
        assert [reference.role for reference in order(made).references] == ["single"]
        assert degraded(made) == []

    @pytest.mark.parametrize(("lost", "left"), [("start", "end"), ("end", "start")])
    def test_goes_on_with_the_one_that_came(self, lost: str, left: str) -> None:
        made = house(from_start_to_end(), WITHOUT)
        made.web.ends = {f"https://host/{lost}.png": [gone()]}
        assert made.until_done().state is State.COMPLETED
        assert [reference.role for reference in order(made).references] == [left]
        why = f"the {lost} reference cannot be used: host answered 404: generated with the {left} reference alone"
        assert degraded(made) == [why]
        assert told(made)["metadata"]["reference_image_url"] == f"https://host/{left}.png"

    def test_waits_for_the_other_though_one_will_never_come(self) -> None:
        made = house(from_start_to_end(), WITHOUT, start=[gone()] * 20, end=[busy()] * 2)
        made.until_done()
        assert [reference.role for reference in order(made).references] == ["end"]
        assert len(made.web.asked) == 3
        assert len(degraded(made)) == 1

    def test_says_so_of_each(self) -> None:
        made = house(from_start_to_end(), WITHOUT, start=[gone()], end=[gone()])
        made.until_done()
        assert degraded(made) == [
            "the start reference cannot be used: host answered 404: generated without",
            "the end reference cannot be used: host answered 404: generated without",
        ]
        assert order(made).references == []


class TestLost:
    def test_is_fetched_again_and_nothing_else_is_repeated(self) -> None:
        """The other reference is kept, the prompt is not enhanced again, the receiver is told once, same bytes."""
        calm = house(from_start_to_end("video7b_high_enhanced"))
        calm.until_done()
        made = house(from_start_to_end("video7b_high_enhanced"))
        made.until(State.GENERATING)
        del made.spool.files[JOB, "reference_end.png"]
        assert made.step().state is State.FETCHING_REFS
        assert made.job.attempts[-1].outcome == "refs lost"
        assert made.job.attempts[-1].message == "not in the spool: end"
        assert made.step().state is State.GENERATING
        made.until_done()
        assert made.web.asked == [[START, END], [END]]
        assert sum(isinstance(asked, Enhance) for asked in made.engine.requests) == 1
        assert [post.told["status"] for post in made.receiver.posts] == ["processing", "completed"]
        assert order(made).references == order(calm).references
        assert made.bucket.objects == calm.bucket.objects

    def test_another_file_is_as_good_as_none(self) -> None:
        made = house(with_reference())
        made.until(State.GENERATING)
        made.spool.files[JOB, "reference_single.png"] = b"another"
        assert made.until_done().state is State.COMPLETED
        assert made.recorder.kinds(JOB).count("references_lost") == 1

    def test_for_ever_ends_the_job(self) -> None:
        made = house(with_reference())
        for _ in range(3):
            made.until(State.GENERATING)
            del made.spool.files[JOB, "reference_single.png"]
            made.step()
        made.until_done()
        assert failure(made)[0] == "ReferencesLost"
        assert len(made.web.asked) == 3

    def test_by_moving_from_host_to_host_is_no_spools_fault(self) -> None:
        made = house(with_reference())
        for host in "abcd":
            made.until(State.GENERATING)
            made.spool.files.clear()
            made.recorder.write(JOB, *decisions.claim(made.job, worker="w1", host=host, device="cpu"))
            assert made.step().state is State.FETCHING_REFS
        assert made.until_done().state is State.COMPLETED

    def test_steps_that_were_drawn_with_it_are_drawn_again(self) -> None:
        made = house(with_reference(steps=7))

        def die(name: str) -> None:
            if made.engine.steps == 5 and name == "engine.step:after":
                made.effect = lambda _: None
                del made.spool.files[JOB, "reference_single.png"]
                made.recorder.write(JOB, *decisions.interrupt(made.job, reason="x", by="s", now=made.clock.now()))

        made.effect = die
        assert made.until_done().state is State.COMPLETED
        assert order(made).resume_from is None

    def test_a_retry_of_the_drawing_keeps_them(self) -> None:
        made = house(with_reference())

        def script(asked: Generate | Enhance) -> Iterator[FromEngine]:
            made.engine.script = None
            yield Started(request_id=asked.request_id)
            yield Failed(request_id=asked.request_id, error_class="transient", error_type="Busy", message="busy")

        made.engine.script = script
        made.until_done()
        assert [attempt.outcome for attempt in made.job.tries(State.GENERATING)] == ["retry", "succeeded"]
        assert made.web.asked == [[ONE]]
        assert [reference.role for reference in order(made).references] == ["single"]


class TestAnotherPicture:
    """What is left of a job is drawn with what it was begun with, or not at all."""

    def lost(self, settings: StageSettings | None = None) -> House:
        made = house(from_start_to_end(), settings)
        made.until(State.GENERATING)
        del made.spool.files[JOB, "reference_end.png"]
        made.web.versions[END] = 2
        return made

    def test_fails_with_that_reason(self) -> None:
        made = self.lost()
        made.until_done()
        assert failure(made) == (
            "ReferenceChanged",
            "Generation failed: the end reference cannot be used: it is another picture than when it was first fetched",
        )
        assert made.engine.requests == []

    def test_is_left_out_where_the_operator_allows_that(self) -> None:
        made = self.lost(WITHOUT)
        made.until_done()
        assert [reference.role for reference in order(made).references] == ["start"]
        assert len(degraded(made)) == 1

    @pytest.mark.parametrize("kept", [True, False])
    def test_is_not_left_out_beside_pictures_that_were_drawn_with_it(self, kept: bool) -> None:
        """One of three is uploaded when the spool is lost: the others are drawn with the same reference, or not."""
        made = house(with_reference(num_images=3), WITHOUT)
        made.until(State.UPLOADING)

        def lose(name: str) -> None:
            if name == ("bucket.put:after" if kept else "recorder.record:before"):
                made.effect = lambda _: None
                made.spool.files.clear()

        made.effect = lose
        made.web.versions[ONE] = 2
        made.until_done()
        if kept:
            assert failure(made)[0] == "ReferenceChanged"
        else:
            assert made.job.state is State.COMPLETED
            assert len(degraded(made)) == 1

    @pytest.mark.parametrize("stage", [None, State.FETCHING_REFS])
    def test_is_taken_by_a_run_that_begins_before_it_is_fetched(self, stage: State | None) -> None:
        made = self.lost()
        made.until_done()
        requeue(made, stage)
        assert made.until_done().state is State.COMPLETED
        assert made.job.references[1]["source_digest"] == sha256(f"{END} 2".encode())

    def test_fails_a_run_that_begins_behind(self) -> None:
        made = house(with_reference())
        made.until(State.GENERATING)
        made.recorder.write(JOB, *decisions.cancel(made.job, by="cli", reason="x"))
        made.until_done()
        made.spool.files.clear()  # as a worker does when a job has ended
        made.web.versions[ONE] = 2
        requeue(made, State.GENERATING)
        made.until_done()
        assert failure(made)[0] == "ReferenceChanged"


class TestARunThatBeginsBehind:
    def test_fetches_the_same_again_and_enhances_nothing(self) -> None:
        made = house(from_start_to_end("video7b_high_enhanced"))
        made.until_done()
        made.spool.files.clear()
        first = dict(made.bucket.objects)
        requeue(made, State.GENERATING)
        made.until_done()
        assert made.web.asked == [[START, END], [START, END]]
        assert sum(isinstance(asked, Enhance) for asked in made.engine.requests) == 1
        assert made.bucket.objects == first

    def test_fetches_what_no_run_has_fetched(self) -> None:
        made = house(with_reference(), single=[gone()])
        made.until_done()
        requeue(made, State.GENERATING)
        assert made.until_done().state is State.COMPLETED
        assert [reference.role for reference in order(made).references] == ["single"]

    def test_asks_again_for_what_the_run_before_did_without(self) -> None:
        made = house(from_start_to_end(), WITHOUT, end=[gone()])
        made.until_done()
        made.spool.files.clear()
        requeue(made, State.GENERATING)
        made.until_done()
        assert [reference.role for reference in order(made).references] == ["start", "end"]
        assert degraded(made) == []

    def test_that_only_tells_again_tells_the_same(self) -> None:
        made = house(from_start_to_end(), WITHOUT, end=[gone()])
        made.until_done()
        before = told(made)
        requeue(made, State.CALLBACK)
        made.until_done()
        assert told(made)["metadata"] == {**before["metadata"], "total_time": told(made)["metadata"]["total_time"]}
        assert len(made.web.asked) == 1
