"""Kill the worker before and after each effect of a whole job: effects at least once, facts exactly once."""

from collections import Counter

import pytest

from statemachine.states import State
from tests.fakes import Crash
from tests.stages.house import JOB, USER, House, from_start_to_end, request
from workers.request import Request

ASKED = {
    "three pictures": request(num_images=3),
    "enhanced video": request("video7b_fast_enhanced", steps=7),
    "from start to end": from_start_to_end("video7b_high_enhanced"),
}


def undisturbed(asked: Request) -> House:
    house = House()
    house.admit(asked)
    house.until_done()
    return house


CALM = {name: undisturbed(asked) for name, asked in ASKED.items()}
POINTS = [(name, at) for name, house in CALM.items() for at in range(len(house.effects))]


@pytest.mark.parametrize(("name", "at"), POINTS, ids=[f"{name}-{at}-{CALM[name].effects[at]}" for name, at in POINTS])
def test_the_next_worker_finishes_what_a_crash_left(name: str, at: int) -> None:
    """The same bytes, the same keys, the same outcome, at most one interval of denoising repeated."""
    calm, house = CALM[name], House()
    house.admit(ASKED[name])

    def crash(_: str) -> None:
        if len(house.effects) == at + 1:
            raise Crash

    house.effect = crash
    with pytest.raises(Crash):
        house.until_done()
    house.crash()
    job = house.until_done()

    assert job.state is State.COMPLETED
    assert house.bucket.objects == calm.bucket.objects
    assert len(house.bucket.puts) <= len(calm.bucket.puts) + 1
    assert house.engine.steps <= calm.engine.steps + 2
    assert len(house.web.asked) <= len(calm.web.asked) + 1
    assert {post.id for post in house.receiver.accepted} == {post.id for post in calm.receiver.accepted}
    assert {post.told["status"]: post.told["assets"] for post in house.receiver.accepted} == {
        "processing": [],
        "completed": calm.receiver.accepted[-1].told["assets"],
    }
    assert max(Counter(post.id for post in house.receiver.posts).values()) <= 2
    once = {"refs_fetched", "prompt_enhanced", "media_generated", "media_uploaded", "job_completed", "asset_uploaded"}
    for kind in once:
        assert house.recorder.kinds(JOB).count(kind) == calm.recorder.kinds(JOB).count(kind), kind


def test_what_was_finished_is_not_drawn_again() -> None:
    """A crash behind the last asset: the engine is asked for its last word, and draws nothing."""
    house = House()
    house.admit(request(num_images=3))

    def crash(name: str) -> None:
        if house.recorder.kinds(JOB).count("asset_generated") == 3 and name == "recorder.record:after":
            raise Crash

    house.effect = crash
    with pytest.raises(Crash):
        house.until_done()
    house.crash()
    house.until_done()
    assert house.engine.drawn == [0, 1, 2]
    assert house.engine.steps == 4
    assert house.bucket.keys() == [f"{USER}/{JOB}_{n}.png" for n in range(3)]
