"""The callback stage: how each answer goes on, and that a job ends whatever the receiver does."""

import pytest

from statemachine import decisions
from statemachine.decisions import UNDELIVERABLE
from statemachine.states import State
from tests.fakes import ScriptedAnswer, refused
from tests.stages.house import JOB, USER, House, request
from workers.errors import GiveUp, Misconfigured, TryAgain
from workers.stages.callback import refusal
from workers.tools import StageSettings

UNSUCCESSFUL = ScriptedAnswer(http_code=200, delivered=False, head='{"success": false}', accepted=False)


def house(answers: list[ScriptedAnswer], settings: StageSettings | None = None) -> House:
    made = House(settings=settings)
    made.admit(request())
    made.until(State.CALLBACK)
    made.receiver.answers = answers
    return made


def outcomes(made: House) -> int:
    return sum(post.id.endswith(":completed") for post in made.receiver.posts)


@pytest.mark.parametrize(
    ("code", "ends", "tries"),
    [
        (None, TryAgain, 9),
        (408, TryAgain, 9),
        (429, TryAgain, 9),
        (500, TryAgain, 9),
        (503, TryAgain, 9),
        (302, TryAgain, 9),
        (404, TryAgain, 9),
        (405, TryAgain, 9),
        (204, TryAgain, 5),
        (400, TryAgain, 5),
        (410, GiveUp, 1),
        (413, GiveUp, 1),
        (422, GiveUp, 1),
    ],
)
def test_each_answer_has_its_budget_and_the_job_ends(code: int | None, ends: type[Exception], tries: int) -> None:
    assert isinstance(refusal(refused(code)), ends)
    made = house([refused(code)] * 20)
    job = made.until_done()
    assert outcomes(made) == tries
    assert (job.state, job.error.error_type if job.error else None) == (State.FAILED, UNDELIVERABLE)
    assert [call.try_ for call in job.told("completed")] == list(range(1, tries + 1))
    assert job.current_assets[0].key is not None


def test_a_no_behind_a_200_is_tried_five_times() -> None:
    made = house([UNSUCCESSFUL] * 20)
    made.until_done()
    assert outcomes(made) == 5


@pytest.mark.parametrize("code", [401, 403])
def test_wrong_credentials_pause_the_lane_and_burn_no_job(code: int) -> None:
    assert isinstance(refusal(refused(code)), Misconfigured)
    made = house([refused(code)] * 12)
    for _ in range(12):
        made.step()
    assert made.job.state is State.CALLBACK
    assert made.lane.paused(made.clock.now())
    assert made.until_done().state is State.COMPLETED


def test_a_deploy_between_two_tries_changes_no_byte_of_the_message() -> None:
    """The same id says the same, whichever worker tells it: that of the one which told it first."""
    made = House()
    made.admit(request())
    made.recorder.write(JOB, *decisions.cancel(made.job, by="cli", reason="not wanted"))
    made.receiver.answers = [refused(503)]
    for version in ("1.2.3", "1.3.0"):
        if made.job.resume_at is not None:
            made.clock.advance(3600.0)
        made.lane.run(made.recorder.claim(JOB, version=version))
    first, second = made.receiver.posts
    assert (first.id, first.told) == (second.id, second.told)
    assert first.told["metadata"]["worker_version"] == "1.2.3"


def test_a_wait_that_the_receiver_asks_for_is_kept() -> None:
    made = house([refused(429, retry_after=3600.0)])
    made.step()
    assert made.job.resume_at is not None
    assert (made.job.resume_at - made.clock.now()).total_seconds() == 3600.0


def test_an_answer_that_broke_off_is_tried_again_whatever_its_code() -> None:
    broken = ScriptedAnswer(http_code=410, delivered=False, head="", error="no complete answer within 3 s")
    assert isinstance(refusal(broken), TryAgain)


def test_nobody_to_tell_ends_the_job_without_a_request() -> None:
    made = house([], StageSettings(callback_configured=False))
    assert made.until_done().state is State.COMPLETED
    assert made.receiver.posts == []
    assert '"notified":false' in made.recorder.history[JOB][-1].data


def test_the_lease_bounds_the_request() -> None:
    made = house([])
    made.effects.clear()
    made.step()
    assert made.effects[:4] == [
        "recorder.record:before",
        "recorder.record:after",
        "recorder.renew:before",
        "recorder.renew:after",
    ]
    assert made.receiver.posts[-1].seconds == made.settings.callback_seconds


def test_a_worker_that_lost_its_lease_tells_nobody() -> None:
    made = house([])
    old, before = made.job, len(made.receiver.posts)
    made.recorder.claim(JOB, worker="another")
    made.lane.run(old)
    assert len(made.receiver.posts) == before


def test_a_retry_of_the_telling_is_the_same_message() -> None:
    """The same id and the same bytes, however late: the receiver may have kept what it refused to confirm."""
    made = house([refused(410)])
    made.until_done()
    made.clock.advance(3600)
    made.recorder.write(JOB, *decisions.requeue(made.job, by="cli", reason="mended", stage=State.CALLBACK))
    assert made.until_done().state is State.COMPLETED
    first, again = made.receiver.posts[-2:]
    assert (first.id, again.id) == (f"{JOB}:1:completed",) * 2
    assert first.body == again.body


def test_a_message_is_told_as_a_new_one_where_an_operator_wants_that() -> None:
    """For a receiver that knows the id and has lost what it was told; later tellings go on under the new id."""
    made = house([])
    made.until_done()
    for as_new in (True, False):
        made.clock.advance(3600)
        again = decisions.requeue(made.job, by="cli", reason="lost", stage=State.CALLBACK, as_new=as_new)
        made.recorder.write(JOB, *again)
        made.until_done()
    first, *later = made.receiver.posts[-3:]
    assert [post.id for post in (first, *later)] == [f"{JOB}:{run}:completed" for run in (1, 2, 2)]
    assert {post.body for post in later} == {first.body}


def test_a_new_run_that_draws_again_has_an_outcome_of_its_own() -> None:
    made = house([])
    made.until_done()
    made.recorder.write(JOB, *decisions.requeue(made.job, by="cli", reason="again"))
    made.until_done()
    assert made.receiver.posts[-1].id == f"{JOB}:2:completed"


def test_a_run_that_only_tells_again_tells_the_outcome_that_was_decided() -> None:
    made = House()
    made.admit(request())
    made.recorder.write(JOB, *decisions.cancel(made.job, by="cli", reason="x"))
    made.until_done()
    made.recorder.write(JOB, *decisions.requeue(made.job, by="cli", reason="y", stage=State.CALLBACK))
    assert made.until_done().state is State.CANCELLED
    first, again = made.receiver.posts[-2:]
    assert (first.id, first.body) == (again.id, again.body)
    assert (again.told["metadata"]["error_type"], again.told["error_message"]) == ("Cancelled", "x")


SIGNED = StageSettings(asset_urls="signed", signed_url_seconds=600)


def test_a_retried_callback_has_the_same_id_and_urls_signed_anew() -> None:
    """One that ran out while the receiver was down would be of no use to it."""
    made = house([refused(503)], SIGNED)
    made.until_done()
    first, again = (post for post in made.receiver.posts if post.id.endswith(":completed"))
    assert first.id == again.id
    url = f"https://storage/signed/sdxl_image_fast/{USER}/{JOB}_0.png"
    assert (first.told["assets"], again.told["assets"]) == ([f"{url}?token=1&for=600"], [f"{url}?token=2&for=600"])
    assert first.told | {"assets": []} == again.told | {"assets": []}


def test_no_url_stands_in_the_history() -> None:
    made = house([], SIGNED)
    made.until_done()
    assert "storage/signed" not in "".join(stored.data for stored in made.recorder.history[JOB])


@pytest.mark.parametrize(
    ("problem", "paused"), [(TryAgain("503"), False), (Misconfigured("denied"), True)], ids=["down", "denied"]
)
def test_a_url_that_cannot_be_had_delays_the_telling(problem: Exception, paused: bool) -> None:
    made = house([], SIGNED)
    made.bucket.failing = [problem]
    made.step()
    assert (made.job.state, made.lane.paused(made.clock.now())) == (State.CALLBACK, paused)
    assert outcomes(made) == 0
    assert made.until_done().state is State.COMPLETED


def test_a_storage_that_has_lost_the_assets_does_not_hold_a_job_for_ever() -> None:
    made = house([], SIGNED)
    made.bucket.failing = [TryAgain("gone")] * 20
    job = made.until_done()
    assert (job.state, job.error.error_type if job.error else None) == (State.FAILED, UNDELIVERABLE)


def test_a_failed_job_asks_for_no_url() -> None:
    made = House(settings=SIGNED)
    made.admit(request())
    made.recorder.write(JOB, *decisions.cancel(made.job, by="cli", reason="x"))
    made.until_done()
    assert made.bucket.urls == 0
