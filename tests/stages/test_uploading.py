"""Uploading: under the lease, once each, and what the spool has lost is made again."""

import pytest

from statemachine import decisions
from statemachine.events import AssetsLost
from statemachine.states import State
from tests.stages.house import JOB, USER, House, request
from workers.errors import GiveUp, Misconfigured, TryAgain


def house(num_images: int = 3) -> House:
    made = House()
    made.admit(request(num_images=num_images))
    made.until(State.UPLOADING)
    return made


def test_the_lease_is_renewed_before_each_put() -> None:
    made = house()
    made.effects.clear()
    made.step()
    for at, name in enumerate(made.effects):
        if name == "bucket.put:before":
            assert made.effects[at - 1] == "recorder.renew:after"
    assert made.bucket.puts == [f"{USER}/{JOB}_{n}.png" for n in range(3)]


def test_a_worker_that_lost_its_lease_puts_nothing() -> None:
    made = house()
    old = made.job
    made.recorder.claim(JOB, worker="another")
    made.lane.run(old)
    assert made.bucket.puts == []


def test_what_is_uploaded_is_not_uploaded_again() -> None:
    made = house()
    made.effect = lambda name: None
    made.bucket.failing = [TryAgain("503")]
    first = made.bucket.puts
    assert made.until_done().state is State.COMPLETED
    assert sorted(first) == made.bucket.keys()


@pytest.mark.parametrize("spoil", ["lost", "another file"])
def test_a_lost_file_is_made_again_from_its_seed(spoil: str) -> None:
    calm = house()
    calm.until_done()
    made = house()
    if spoil == "lost":
        del made.spool.files[JOB, "asset_1.png"]
    else:
        made.spool.files[JOB, "asset_1.png"] = b"another"
    assert made.until_done().state is State.COMPLETED
    assert made.bucket.objects == calm.bucket.objects
    assert made.engine.drawn == [0, 1, 2, 1]
    assert made.bucket.puts == [f"{USER}/{JOB}_{n}.png" for n in range(3)]


def test_a_spool_that_loses_them_for_ever_ends_the_job() -> None:
    made = house()

    def lose(name: str) -> None:
        if name == "recorder.record:before":
            made.spool.files.pop((JOB, "asset_1.png"), None)

    made.effect = lose
    job = made.until_done()
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.error_type == "AssetsLost"


def test_what_other_hosts_have_lost_is_not_held_against_this_one() -> None:
    made = house()
    made.recorder.write(JOB, *decisions.interrupt(made.job, reason="x", by="s", now=made.clock.now(), counts=False))
    for host in ("gone", "gone too"):
        made.recorder.write(JOB, *decisions.claim(made.job, worker="w9", host=host, device="cpu"))
        lost = AssetsLost(missing=[asset.digest for asset in made.job.current_assets], reason="not in the spool")
        made.recorder.write(JOB, *decisions.start(made.job), lost)
        made.until(State.UPLOADING)
    del made.spool.files[JOB, "asset_1.png"]
    assert made.until_done().state is State.COMPLETED
    assert [attempt.outcome for attempt in made.job.tries(State.UPLOADING)][-2:] == ["assets lost", "succeeded"]


def test_a_run_that_starts_here_without_assets_makes_them_and_completes_nothing_empty() -> None:
    made = House()
    made.admit(request(num_images=3))
    made.recorder.write(JOB, *decisions.cancel(made.job, by="cli", reason="x"))
    made.until_done()
    made.recorder.write(JOB, *decisions.requeue(made.job, by="cli", reason="y", stage=State.UPLOADING))
    assert made.until_done().state is State.COMPLETED
    assert len(made.receiver.posts[-1].told["assets"]) == 3


@pytest.mark.parametrize(
    ("problem", "state", "paused"),
    [
        (GiveUp("a bad key"), State.FAILED, False),
        (Misconfigured("disk full"), State.UPLOADING, True),
        (TryAgain("503"), State.UPLOADING, False),
    ],
)
def test_the_storages_trouble_is_the_lanes(problem: Exception, state: State, paused: bool) -> None:
    made = house(1)
    made.bucket.failing = [problem]
    made.step()
    assert made.lane.paused(made.clock.now()) is paused
    if state.terminal:
        made.until_done()
    assert made.job.state is state


def test_a_cancelled_job_uploads_no_more() -> None:
    made = house()

    def cancel(name: str) -> None:
        if name == "bucket.put:after":
            made.effect = lambda _: None
            made.recorder.write(JOB, *decisions.cancel(made.job, by="cli", reason="no more"))

    made.effect = cancel
    assert made.until_done().state is State.CANCELLED
    assert len(made.bucket.puts) == 1
    assert made.receiver.posts[-1].told["assets"] == []
