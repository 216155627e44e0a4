"""What a WAN job is given, in what it draws: by VACE and by the latent clamp, in every mode, as near as was asked."""

import itertools
from pathlib import Path
from typing import Any

import av
import numpy
import pytest
from PIL import Image

from tests.engines.asking import Answer, Studio, request
from tests.engines.holding import apart, decode, lake, meadow
from workers.engines.messages import Failed, Progress, Reduced, ReferenceFile
from workers.models import inspect_model
from workers.spool import sha256

SIZE = (64, 96)
STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
FIGURES = "levels of 255 between a frame and what was given"


def ask(studio: Studio, roles: tuple[str, ...] = (), **changes: Any) -> Answer:
    """A video of 9 frames of 64 x 96 in 6 steps, holding to a lake, or at its end to a meadow."""
    pictures = {role: meadow(SIZE) if role == "end" else lake(SIZE) for role in roles}
    wan: dict[str, Any] = {
        "job_type": "video_fast",
        "model": "wan_2_1_1_3b",
        "width": 480,
        "height": 832,
        "guidance_scale": 6.5,
        "frames": 9,
        "solver": "unipc",
        "shift": 5.0,
        "references": pictures,
        "reference_strength": 1.0,
    }
    return studio.ask(**{**wan, **changes})


def frames(answer: Answer) -> Any:
    (data,) = answer.bytes()
    return decode(data)


@pytest.fixture(params=["vace", "latent_clamp"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def house(way: str, studio: Studio, request: pytest.FixtureRequest) -> Studio:
    """An engine that goes that way."""
    if way == "vace":
        return studio
    clamping: Studio = request.getfixturevalue("clamping")
    return clamping


def test_the_frames_that_were_given_are_near_and_the_others_are_not(house: Studio, way: str) -> None:
    """The first frame of start, the last of end, both of both; the last latent spans four frames."""
    plain = frames(ask(house))
    near, far = 15.0, 40.0
    assert apart(plain[0], lake(SIZE)) > far
    assert apart(plain[-1], meadow(SIZE)) > far
    for roles in (("start",), ("end",), ("start", "end")):
        answer = ask(house, roles)
        drawn = frames(answer)
        for place, role, picture in ((0, "start", lake(SIZE)), (-1, "end", meadow(SIZE))):
            distance = apart(drawn[place], picture)
            assert distance < near if role in roles else distance > far, (roles, place, distance)
        assert min(apart(drawn[4], picture) for picture in (lake(SIZE), meadow(SIZE))) > far
        assert answer.generated.reference_way == way


@pytest.mark.parametrize("frame_num", [1, 5])
def test_strength_decides_how_near(house: Studio, frame_num: int, record_property: Any) -> None:
    """From 0.1 to 1.0 each step leads nearer: the first frame, and the last."""
    pictures = {"start": lake(SIZE), "end": meadow(SIZE)} if frame_num > 1 else {"start": lake(SIZE)}
    drawn = [
        frames(ask(house, references=pictures, reference_strength=strength, steps=15, frames=frame_num))
        for strength in STRENGTHS
    ]
    for role, picture in pictures.items():
        distances = [apart(each[0 if role == "start" else -1], picture) for each in drawn]
        record_property(FIGURES, [round(distance, 1) for distance in distances])
        assert all(later < earlier for earlier, later in itertools.pairwise(distances)), distances
        assert distances[0] > 3 * distances[5], distances


def test_a_single_picture_pulls_the_whole_clip_to_its_colours(studio: Studio, record_property: Any) -> None:
    """By VACE it is no frame: every frame comes nearer to its colours, the more the stronger, none becomes it."""
    wanted = numpy.asarray(lake(SIZE), dtype=float).mean(axis=(0, 1))
    distances = []
    for strength in STRENGTHS:
        drawn = frames(ask(studio, ("single",), frames=5, reference_strength=strength))
        distances.append(numpy.abs(drawn.mean(axis=(1, 2)) - wanted).mean(axis=1))
        assert min(apart(frame, lake(SIZE)) for frame in drawn) > 20
    record_property(FIGURES, [[round(float(frame), 1) for frame in each] for each in distances])
    assert all((later < earlier).all() for earlier, later in itertools.pairwise(distances)), distances
    assert (distances[-1] < 0.75 * distances[0]).all()
    assert (numpy.abs(frames(ask(studio, frames=5)).mean(axis=(1, 2)) - wanted).mean(axis=1) > distances[2]).all()


def test_a_single_picture_without_vace_is_the_first_frame_and_says_so(clamping: Studio) -> None:
    answer = ask(clamping, ("single",))
    reduced = [(message.what, message.why) for message in answer.messages if isinstance(message, Reduced)]
    assert reduced == [("references", "a single reference is held to as the first frame: there is no VACE model")]
    assert numpy.array_equal(frames(answer), frames(ask(clamping, ("start",))))
    assert answer.generated.reference_way == "latent_clamp"


def test_one_frame_has_one_end(house: Studio) -> None:
    """It is held to as the frame itself, whichever end it was given as; of two, to the first, and that is said."""
    pictures: dict[str, Any] = {"job_type": "image_fast", "frames": 1, "reference_strength": 0.9}
    start, end = (ask(house, references={role: lake(SIZE)}, **pictures) for role in ("start", "end"))
    assert numpy.array_equal(frames(start), frames(end))
    assert not any(isinstance(message, Reduced) for message in (*start.messages, *end.messages))
    both = ask(house, ("start", "end"), **pictures)
    assert numpy.array_equal(frames(both), frames(start))
    reduced = [message.why for message in both.messages if isinstance(message, Reduced)]
    assert reduced == ["one frame has both ends: the start reference is used"]


def test_a_picture_of_vace_s_single_reference_is_no_copy(studio: Studio) -> None:
    pictures: dict[str, Any] = {"job_type": "image_fast", "frames": 1}
    assert apart(frames(ask(studio, ("single",), **pictures))[0], lake(SIZE)) > 30
    assert apart(frames(ask(studio, ("start",), **pictures))[0], lake(SIZE)) < 15


def test_a_reference_of_another_form_is_fitted(house: Studio) -> None:
    """Letterbox keeps all of it between white bars, crop fills the frame; neither distorts. Nor does an odd size."""
    wide = Image.new("RGB", (200, 100), (200, 30, 30))
    wide.paste((30, 30, 200), (100, 0, 200, 100))
    drawn = {
        fit: frames(ask(house, references={"start": wide}, reference_fit=fit))[0].astype(float)
        for fit in ("letterbox", "crop")
    }
    assert drawn["letterbox"][:20].mean() > 220
    assert drawn["letterbox"][-20:].mean() > 220
    for picture in (drawn["letterbox"][40:56], drawn["crop"]):
        left, right = picture[:, 8:24].mean(axis=(0, 1)), picture[:, -24:-8].mean(axis=(0, 1))
        assert left[0] > left[2] + 100
        assert right[2] > right[0] + 100
    odd = ask(house, references={"start": wide}, reference_fit="crop", width=500, height=333)
    assert (odd.assets[0].width, odd.assets[0].height, odd.assets[0].frames) == (64, 48, 9)
    assert apart(frames(odd)[0][:, :24], Image.new("RGB", (24, 48), (200, 30, 30))) < 40


@pytest.mark.parametrize("roles", [("single",), ("start", "end")])
def test_the_same_request_gives_the_same_file_and_another_seed_another(house: Studio, roles: tuple[str, ...]) -> None:
    first, again, other = (ask(house, roles, reference_strength=0.7, seed=seed) for seed in (7, 7, 8))
    assert first.bytes() == again.bytes()
    assert numpy.abs(frames(first).astype(float) - frames(other)).mean() > 3


def test_a_file_tells_how_references_were_used(house: Studio, way: str, tiny: Path) -> None:
    """And the model that really drew: VACE's, where it is there."""
    answer = ask(house, ("start", "end"), frames=5, reference_strength=0.7)
    with av.open(str(answer.files[0])) as container:
        comment = container.metadata["comment"]
    for field in ('"reference_mode": "both"', f'"reference_way": "{way}"', '"reference_strength": "0.7"'):
        assert field in comment
    family, folder = ("wan_vace", "tiny-wan-vace") if way == "vace" else ("wan", "tiny-wan")
    assert answer.generated.model_digest == inspect_model("m", family, tiny / folder, compute_digest=True).digest
    (data,) = ask(house, frames=5).bytes()
    assert b"reference_" not in data


@pytest.mark.parametrize(
    ("stored", "told", "error", "sentence"),
    [
        (None, b"lake", ("transient", "ReferenceLost"), "the start reference lake.png is not in the spool"),
        (b"sea", b"lake", ("transient", "ReferenceLost"), "the start reference lake.png was changed: expected digest"),
        (b"lake", b"lake", ("permanent", "InvalidParameters"), "the start reference lake.png is no PNG"),
    ],
    ids=["missing", "changed", "no PNG"],
)
def test_a_reference_that_is_not_as_it_was_told_is_not_used(
    studio: Studio, stored: bytes | None, told: bytes, error: tuple[str, str], sentence: str
) -> None:
    """It has to be fetched again, which the error's type tells the worker; what is no PNG never will be one."""
    reference = ReferenceFile(role="start", name="lake.png", digest=sha256(told))
    asked = request(studio.spool, job_type="video_fast", model="wan_2_1_1_3b", references=[reference])
    if stored is not None:
        (Path(asked.spool) / "lake.png").write_bytes(stored)
    failure = list(studio.engine.run(asked))[-1]
    assert isinstance(failure, Failed)
    assert (failure.error_class, failure.error_type) == error
    assert sentence in failure.message
    assert not list(Path(asked.spool).glob("asset_*"))


@pytest.mark.parametrize(
    ("references", "sentence"),
    [
        (["single", "start"], "references must be single, start, end, or start and end, got single, start"),
        (["start", "start"], "references must be single, start, end, or start and end, got start, start"),
        (["middle"], "references must be single, start, end, or start and end, got middle"),
    ],
)
def test_roles_that_make_no_mode_are_refused(studio: Studio, references: list[str], sentence: str) -> None:
    held = [ReferenceFile(role=role, name="x.png", digest="") for role in references]
    assert sentence in ask(studio, references=held).failed.message


def test_a_strength_beyond_its_bounds_is_refused(studio: Studio) -> None:
    for strength in (0.0, 1.5):
        assert "reference_strength must be" in ask(studio, ("start",), reference_strength=strength).failed.message


def test_a_cancelled_job_with_references_leaves_the_engine_usable(house: Studio) -> None:
    """Between two steps; the next job of the same model is as if it had not been."""
    undisturbed = ask(house, ("start",), reference_strength=0.7).bytes()
    asked, answers = house.begin(
        job_type="video_fast", model="wan_2_1_1_3b", frames=9, steps=200, references={"start": lake(SIZE)}
    )
    messages = []
    for message in answers:
        messages.append(message)
        if isinstance(message, Progress) and message.step == 2:
            house.engine.cancel(asked.request_id)
    last = messages[-1]
    assert isinstance(last, Failed)
    assert last.error_class == "cancelled"
    assert max(message.step for message in messages if isinstance(message, Progress)) < 200
    assert ask(house, ("start",), reference_strength=0.7).bytes() == undisturbed
    assert ask(house).generated.reference_way is None
