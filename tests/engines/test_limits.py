"""When an engine counts as hung, whose fault that is, and what it costs those beside it."""

from pathlib import Path

from workers.engines.config import EngineConfig
from workers.outstanding import Hang, Outstanding, hang

CONFIG = EngineConfig(
    engine="null", device="cpu", lock_dir=Path("locks"), hang_seconds=10.0, load_seconds=100.0, request_seconds=1000.0
)


def begun(name: str, *, at: float = 0.0) -> Outstanding:
    one = Outstanding(name, at, CONFIG.hang_limit)
    one.begun = at
    return one


def due(*waiting: Outstanding, last: float = 0.0) -> Hang:
    found = hang(waiting, CONFIG, last, obey_seconds=30.0)
    assert found is not None
    return found


def test_silence_ends_what_is_silent() -> None:
    silent, speaking = begun("a"), begun("b")
    speaking.does("working", 9.0, CONFIG)
    assert due(silent, speaking) == Hang(10.0, "no sign of life for 10 s while waiting", silent)


def test_who_says_for_ever_that_it_loads_is_ended() -> None:
    one = begun("a")
    for now in range(5, 95, 5):
        one.does("loading a model", float(now), CONFIG)
    assert due(one) == Hang(105.0, "still loading a model after 100 s", one)
    one.does("working", 95.0, CONFIG)
    one.does("loading a model", 96.0, CONFIG)
    assert due(one).at == 196.0, "another one, after something else"


def test_steps_without_end_are_ended() -> None:
    one = begun("a")
    for now in range(1, 999):
        one.does("working", float(now), CONFIG)
    assert due(one) == Hang(1000.0, "not done after 1000 s", one)


def test_a_cancelled_one_has_until_it_has_loaded() -> None:
    one, beside = begun("a"), begun("b")
    for each in (one, beside):
        each.does("loading a model", 1.0, CONFIG)
    one.cancelled_at = 2.0
    assert due(one, beside).at == 101.0
    for each in (one, beside):
        each.does("working", 50.0, CONFIG)
    beside.does("working", 75.0, CONFIG)
    one.does("working", 79.0, CONFIG)
    assert due(one, beside) == Hang(80.0, "did not stop within 30 s", one)


def test_what_nobody_takes_up_is_nobodys_fault() -> None:
    assert hang([], CONFIG, 0.0, obey_seconds=30.0) is None
    assert due(Outstanding("a", 3.0, 10.0), last=5.0) == Hang(15.0, "a request was not taken up for 10 s", None)
