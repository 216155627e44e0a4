"""What is odd about one job: every kind is found where it is, and nothing is odd about ordinary jobs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from ourvidz.inspect.anomalies import KINDS, anomalies
from ourvidz.inspect.document import document
from ourvidz.inspect.reading import situation_at, situation_of
from ourvidz.inspect.situation import Situation
from ourvidz.inspect.web_page import web_page
from statemachine import decisions
from statemachine import events as e
from statemachine.states import State
from statemachine.store import EventStore
from statemachine.store.chain import check
from statemachine.store.schema import jobs
from tests.fates import FATES, JOB, START, Life
from tests.statemachine.builders import new_job


def kinds(situation: Situation) -> list[str]:
    """The names of what is odd."""
    return [one.kind for one in anomalies(situation)]


def uploaded(seconds: float = 9.0, **media: Any) -> Life:
    """A job whose three pictures are stored, after a generation of so many device seconds."""
    life = Life().wait(1).claim()
    for index in range(3):
        life.write(e.AssetGenerated(index=index, seed=1, name=f"{index}", digest="0" * 64, bytes=9, width=4, height=4))
    made = {"engine": "diffusers"} | media
    return life.write(e.MediaGenerated(device_seconds=seconds, **made)).start().upload()


@pytest.mark.parametrize("fate", FATES)
def test_nothing_is_odd_about_an_ordinary_job(fate: str) -> None:
    assert kinds(FATES[fate]()) == []


def superseded() -> Life:
    """The same worker begins the stage once more, and says nothing of the first time."""
    life = Life().wait(1).claim().wait(1)
    return life.start()


def on_trial() -> Life:
    """Two deaths, and a third one is the last."""
    life = Life()
    for _ in range(2):
        life.wait(1).claim().wait(1).interrupt()
    return life


def discarded() -> Life:
    """The checkpoint's file is rotten."""
    life = Life().wait(1).claim().checkpoint(7).interrupt().wait(1).claim()
    return life.write(e.CheckpointDiscarded(name="latents_7", reason="its digest differs"))


def assets_lost() -> Life:
    """The spool's disk was replaced before the upload."""
    life = Life().wait(1).claim().generate().start()
    return life.write(e.AssetsLost(missing=["0" * 64], reason="asset_0.png is not in the spool"))


def told_twice() -> Life:
    """The receiver's first answer came, and was not believed."""
    return uploaded().start().tell().tell()


def producers_clock() -> Life:
    """The producer dates the job a minute later than it arrived."""
    life = Life()
    first = life.history[0]
    assert isinstance(first.event, e.JobQueued)
    life.job = msgspec.structs.replace(life.job, created_at=START + timedelta(minutes=1))
    return life


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (superseded, "superseded", "attempt 1 at generating in run 1 was left open, and counts"),
        (on_trial, "on_trial", "one more interruption while generating, and it fails as poison"),
        (discarded, "checkpoint_discarded", "latents_7 was of no use: its digest differs"),
        (assets_lost, "assets_lost", "1 file lost: asset_0.png is not in the spool"),
        (told_twice, "told_twice", f"completed was accepted 2 times under {JOB}:1:completed"),
        (producers_clock, "producers_clock", "its producer's clock is 1 min ahead of ours"),
        (lambda: uploaded(4.4), "fast", "3 files took 4.4 s of device time, where 9 s to 24 s are usual"),
        (lambda: uploaded(48.1), "slow", "3 files took 48 s of device time, where 9 s to 24 s are usual"),
    ],
)
def test_each_kind_is_found_and_said(make: Callable[[], Life], kind: str, said: str) -> None:
    (found,) = anomalies(make().wait(1).seen())
    assert found.kind == kind
    assert found.said.startswith(said)
    assert kind in KINDS


@pytest.mark.parametrize(
    "make",
    [
        lambda: uploaded(4.5),
        lambda: uploaded(48.0),
        lambda: uploaded(0.1, engine="null"),
        lambda: uploaded(0.1, render_scale="1/8"),
    ],
)
def test_what_is_not_far_off_or_not_comparable_is_not_odd(make: Callable[[], Life]) -> None:
    assert kinds(make().seen()) == []


def test_who_has_an_outcome_told_again_has_not_told_it_twice() -> None:
    life = uploaded().start().tell().finish().wait(60)
    life.write(*decisions.requeue(life.job, by="ada", reason="", stage=State.CALLBACK)).claim().tell().finish()
    assert kinds(life.seen()) == []


@pytest.mark.parametrize("fate", FATES)
def test_a_history_that_lacks_an_event_is_told_all_the_same(fate: str) -> None:
    """Whichever it is: the page stands, and says first what is wrong."""
    whole = FATES[fate]()
    for number in range(len(whole.history) - 1):
        history = [row for row in whole.history if row.version != number + 1]
        found = check(JOB, history)
        broken = msgspec.structs.replace(whole, job=found.job, history=history, findings=found.findings)
        told = document(broken)
        assert told["anomalies"][0]["kind"] == "version_missing"
        assert "version missing" in web_page(told, {}, events=True)


def test_a_changed_event_is_named_by_its_version() -> None:
    life = Life().wait(1).claim().checkpoint(7)
    rows = life.history
    rows[1] = msgspec.structs.replace(rows[1], data=rows[1].data.replace("gpu-1-3f9c", "gpu-1-beef"))
    assert [(one.kind, one.version) for one in anomalies(life.seen())] == [("event_changed", 2)]


def test_a_kind_of_a_later_version_is_named() -> None:
    life = Life().wait(1)
    unknown = e.Unknown(stored_kind="blessed", stored_data="{}")
    life.history.append(msgspec.structs.replace(life.history[0], version=2, kind="blessed", event=unknown))
    assert kinds(life.seen(findings=[])) == ["unknown_event"]


def test_a_projection_that_is_not_what_the_history_says_is_of_now_and_not_of_then(store: EventStore) -> None:
    store.admit([new_job(JOB)])
    assert kinds(situation_of(store, JOB)) == []
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == JOB).values(priority=7))
    (found,) = anomalies(situation_of(store, JOB))
    assert (found.kind, found.said) == ("projection", "jobs: other values in priority")
    assert kinds(situation_at(store, JOB, 1)) == []
