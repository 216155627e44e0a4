"""A video is looked at before it leaves: what was drawn wrong is told by its own sentence and never uploaded."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from statemachine.job import Asset
from tests.programs.wan_generate import write_video
from workers.errors import GiveUp
from workers.output_check import check

FASTSTART = {"movflags": "+faststart"}


def asset(width: int = 64, height: int = 96, frames: int = 5) -> Asset:
    return Asset(run=1, index=0, seed=1, name="asset_0.mp4", digest="d", bytes=1, width=width, height=height,
                 frames=frames, content_type="video/mp4", seconds=0.0)  # fmt: skip


def video(folder: Path, **changes: Any) -> bytes:
    asked: dict[str, Any] = {"seed": 1, "frames": 5, "width": 64, "height": 96, "options": FASTSTART}
    write_video(folder / "v.mp4", **{**asked, **changes})
    return (folder / "v.mp4").read_bytes()


def png(folder: Path) -> bytes:
    Image.radial_gradient("L").save(folder / "v.png")
    return (folder / "v.png").read_bytes()


def test_a_whole_video_passes(tmp_path: Path) -> None:
    check(asset(), video(tmp_path))
    check(asset(frames=1), video(tmp_path, frames=1))


@pytest.mark.parametrize(
    ("changes", "error_type", "sentence"),
    [
        ({"frames": 9}, "OutputFrames", "has 9 frames instead of 5"),
        ({"width": 32}, "OutputSize", r"has the size 32\*96 instead of 64\*96"),
        ({"codec": "mpeg4"}, "OutputFormat", "is mpeg4 in yuv420p instead of h264 in yuv420p"),
        ({"options": {}}, "OutputFormat", "has its index behind its pictures"),
        ({"blank": True}, "OutputBlank", "is blank: all its frames have one colour"),
    ],
    ids=["frames", "size", "codec", "index", "blank"],
)
def test_a_video_of_another_kind_does_not(
    tmp_path: Path, changes: dict[str, Any], error_type: str, sentence: str
) -> None:
    with pytest.raises(GiveUp, match=f"^Generation failed: video 0 {sentence}") as given_up:
        check(asset(), video(tmp_path, **changes))
    assert given_up.value.error_type == error_type


def test_what_is_no_video_does_not(tmp_path: Path) -> None:
    """Cut anywhere, even where a box ends; an error page, a picture under a video's name, nothing at all."""
    whole = video(tmp_path)
    cases = {
        "truncated": [whole[: len(whole) * part // 10] for part in range(1, 10)] + [whole[: whole.index(b"mdat") - 4]],
        "it is a text": [b"<html>502 Bad Gateway</html>", "Fehler: kein Gerät".encode()],
        "it is a picture": [png(tmp_path)],
        "it is empty": [b""],
        "it is no MP4": [bytes(range(256))],
        "cannot be played": [whole[: whole.index(b"mdat") + 4] + bytes(len(whole) - whole.index(b"mdat") - 4)],
    }
    for sentence, files in cases.items():
        for data in files:
            with pytest.raises(GiveUp, match=sentence) as given_up:
                check(asset(), data)
            assert given_up.value.error_type == "OutputUnreadable"
