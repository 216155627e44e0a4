"""Videos and single frames: those of diffusers to the byte, each parameter seen in them, files that play anywhere."""

import io
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy
import pytest
from PIL import Image

from tests.engines.asking import Answer, Studio
from tests.engines.conftest import THREADS
from tests.engines.holding import decode
from workers.engines.messages import AssetWritten, Failed, Loaded, Progress
from workers.engines.mp4 import encode_mp4
from workers.models import inspect_model
from workers.spool import sha256

DIRECT = Path(__file__).with_name("direct_wan.py")


def ask(studio: Studio, **changes: Any) -> Answer:
    """A video of 5 frames of 64 x 96 in 6 steps, if nothing else is asked for."""
    wan: dict[str, Any] = {
        "job_type": "video_fast",
        "model": "wan_2_1_1_3b",
        "width": 480,
        "height": 832,
        "guidance_scale": 6.5,
        "frames": 5,
        "solver": "unipc",
        "shift": 5.0,
    }
    return studio.ask(**{**wan, **changes})


def test_frames_are_those_of_a_direct_diffusers_call(studio: Studio, tiny: Path, tmp_path: Path) -> None:
    """One frame, a video, and one of another size, shift and number of steps. 12 frames make 9, as 83 make 81.

    A video is compared behind the encoder: the same frames, encoded here, decode to the same.
    """
    cases: list[dict[str, Any]] = [
        {"job_type": "image_fast", "frames": 1},
        {"frames": 5},
        {"frames": 12, "width": 832, "height": 480, "shift": 3.0, "steps": 4, "guidance_scale": 7.5, "seed": 2**63 - 1},
    ]
    direct = [
        {
            "model": str(tiny / "tiny-wan"),
            "kwargs": {
                "prompt": "a heron at dawn over a misty lake",
                "width": {480: 64, 832: 96}[case.get("width", 480)],
                "height": {480: 64, 832: 96}[case.get("height", 832)],
                "num_frames": {1: 1, 5: 5, 12: 9}[case["frames"]],
                "num_inference_steps": case.get("steps", 6),
                "guidance_scale": case.get("guidance_scale", 6.5),
            },
            "seed": case.get("seed", 7),
            "shift": case.get("shift", 5.0),
        }
        for case in cases
    ]
    subprocess.run(
        [sys.executable, str(DIRECT), str(THREADS), str(tmp_path), json.dumps(direct)],
        capture_output=True,
        check=True,
    )
    for number, case in enumerate(cases):
        expected = numpy.load(tmp_path / f"{number}.npy")
        answer = ask(studio, **case)
        (data,) = answer.bytes()
        if case["frames"] == 1:
            assert numpy.array_equal(numpy.asarray(Image.open(io.BytesIO(data))), expected[0])
        else:
            again = encode_mp4(expected, fps=16, comment="", folder=tmp_path)
            assert numpy.array_equal(decode(data), decode(again)), case
            assert numpy.abs(decode(data).astype(float) - expected).mean() < 4


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a heron at dusk over a misty lake"},
        {"guidance_scale": 7.5},
        {"steps": 7},
        {"seed": 8},
        {"shift": 3.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_parameter_can_be_seen(studio: Studio, change: dict[str, Any]) -> None:
    """A parameter lost on the way to the pipeline would leave the video as it was."""
    before, after = (decode(*ask(studio, **changes).bytes()) for changes in ({}, change))
    assert numpy.abs(before.astype(float) - after).mean() > 3


def test_a_negative_prompt_is_not_heard(studio: Studio) -> None:
    """WAN's jobs have none; the producer's would be a mistake."""
    assert ask(studio, negative_prompt="blurry, bad hands").bytes() == ask(studio).bytes()


def test_the_same_request_twice_gives_the_same_file(studio: Studio) -> None:
    assert ask(studio, frames=9).bytes() == ask(studio, frames=9).bytes()


def test_frames_are_smooth_and_not_of_one_colour(studio: Studio) -> None:
    frames = decode(*ask(studio, steps=15, frames=9).bytes()).astype(float)
    assert frames.std(axis=(1, 2)).min() > 8
    assert numpy.abs(numpy.diff(frames, axis=1)).mean() < 8
    assert numpy.abs(frames[8] - frames[0]).mean() > 3  # it moves
    assert ((frames <= 1) | (frames >= 254)).mean() < 0.2


def test_a_video_plays_anywhere(studio: Studio) -> None:
    """H.264 in yuv420p at 16 frames a second, its index before its pictures."""
    (data,) = ask(studio, frames=9).bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    with av.open(io.BytesIO(data), "r") as container:
        (stream,) = container.streams.video
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", Fraction(16))
        assert (stream.width, stream.height, stream.frames) == (64, 96, 9)
        assert len(container.streams) == 1


def test_what_is_said_is_what_lies_in_the_spool(studio: Studio, tiny: Path) -> None:
    """Digest, size, frames, steps, the model's digest and its render scale."""
    spec = inspect_model("x", "wan", tiny / "tiny-wan", compute_digest=True)
    for frames, name, kind in ((1, "asset_0.png", "image/png"), (7, "asset_0.mp4", "video/mp4")):
        answer = ask(studio, frames=frames)
        (asset,), (data,) = answer.assets, answer.bytes()
        assert (asset.digest, asset.bytes, asset.seed) == (sha256(data), len(data), 7)
        assert (asset.name, asset.content_type) == (name, kind)
        assert (asset.width, asset.height, asset.frames) == (64, 96, {1: 1, 7: 5}[frames])
        assert [file.name for file in Path(answer.request.spool).iterdir()] == [name]
        steps = [(m.step, m.of) for m in answer.messages if isinstance(m, Progress)]
        assert steps == [(step, 6) for step in range(1, 7)]
        assert (answer.generated.model_digest, answer.generated.render_scale) == (spec.digest, "1/8")
        assert answer.generated.batches == [1]
    nothing = ask(studio, done=[0])
    assert nothing.generated.device_seconds == 0
    assert not any(isinstance(m, Progress | AssetWritten) for m in nothing.messages)


def test_a_file_tells_how_it_was_made(studio: Studio) -> None:
    """A video in its comment; and the words only where that is allowed."""
    answer = ask(studio, prompt="a heron, 夜明け")
    with av.open(str(answer.files[0])) as container:
        told = json.loads(container.metadata["comment"])
    assert (told["prompt"], told["seed"], told["steps"], told["shift"]) == ("a heron, 夜明け", "7", "6", "5.0")
    assert (told["size"], told["frames"], told["model"]) == ("64x96", "5", "wan_2_1_1_3b")
    assert told["model_digest"] == answer.generated.model_digest
    assert "av=" in told["versions"]
    picture = ask(studio, frames=1)
    assert Image.open(picture.files[0]).text["scheduler"] == "UniPCMultistepScheduler"  # type: ignore[attr-defined]
    for frames in (1, 5):
        (data,) = ask(studio, prompt="a secret heron", frames=frames, embed_prompt=False).bytes()
        assert b"secret" not in data


def test_one_process_serves_both_families(studio: Studio) -> None:
    """One after the other, both held where there is room; what is drawn does not depend on what was before."""
    assert studio.engine.ready().families == ["sdxl", "wan"]
    video, picture = ask(studio), studio.ask()
    both = [studio.ask(), ask(studio), studio.ask()]
    assert [answer.bytes() for answer in both] == [picture.bytes(), video.bytes(), picture.bytes()]
    loads = [[m.model for m in answer.messages if isinstance(m, Loaded)] for answer in both]
    assert loads == [[], [], []]


def test_a_cancelled_video_leaves_the_pipeline_usable(studio: Studio) -> None:
    undisturbed = ask(studio).bytes()
    changes: dict[str, Any] = {"job_type": "video_fast", "model": "wan_2_1_1_3b", "frames": 9, "steps": 200}
    asked, answers = studio.begin(**changes)
    messages = []
    for message in answers:
        messages.append(message)
        if isinstance(message, Progress) and message.step == 2:
            studio.engine.cancel(asked.request_id)
    last = messages[-1]
    assert isinstance(last, Failed)
    assert last.error_class == "cancelled"
    assert ask(studio).bytes() == undisturbed


@pytest.mark.parametrize(
    ("change", "error_class", "sentence"),
    [
        ({"num_images": 3}, "permanent", "Invalid parameters: WAN makes 1 picture or video a job, got num_images 3"),
        ({"solver": "dpm++"}, "permanent", "Invalid parameters: the solver must be unipc, got dpm++"),
        ({"frames": 0}, "permanent", "Invalid parameters: frames must be at least 1, got 0"),
        (
            {"model": "lustify_sdxl"},
            "misconfiguration",
            "tiny-sdxl holds a StableDiffusionXLPipeline, and a model of the",
        ),
    ],
)
def test_what_cannot_be_drawn_says_why(studio: Studio, change: dict[str, Any], error_class: str, sentence: str) -> None:
    failure = ask(studio, **change).failed
    assert failure.error_class == error_class
    assert sentence in failure.message
