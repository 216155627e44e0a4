"""What a real engine made is looked at before it is uploaded, whichever engine it was."""

from collections.abc import Iterator

import msgspec
import pytest

from statemachine.states import State
from tests.stages.house import JOB, House, request
from workers.engines.messages import Enhance, FromEngine, Generate, Generated


@pytest.mark.parametrize(
    ("engine", "ends"), [("diffusers", State.FAILED), ("wan_script", State.FAILED), ("null", State.COMPLETED)]
)
def test_what_is_no_video_is_never_uploaded(engine: str, ends: State) -> None:
    """The null engine's videos are texts, and said to be."""
    house = House()
    house.admit(request("video_fast"))

    def script(asked: Generate | Enhance) -> Iterator[FromEngine]:
        assert isinstance(asked, Generate)
        for said in house.engine._draw(asked):
            yield msgspec.structs.replace(said, engine=engine) if isinstance(said, Generated) else said

    house.engine.script = script
    job = house.until_done()
    assert job.state is ends
    if ends is State.FAILED:
        assert job.error is not None
        assert job.error.error_type == "OutputUnreadable"
        assert "asset_uploaded" not in house.recorder.kinds(JOB)
        assert house.bucket.puts == []
