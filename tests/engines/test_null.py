"""The null engine: the whole protocol, deterministic, and crashable at every word and every write."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from PIL import Image

from tests.engines.asking import Answer, request
from workers.engines.messages import (
    CheckpointDiscarded,
    CheckpointWritten,
    Enhance,
    Enhanced,
    FromEngine,
    Generate,
    Loaded,
    Progress,
    ReferenceFile,
)
from workers.engines.null import IMAGE_TYPES, VIDEO_HEAD, VIDEO_TYPES, NullEngine
from workers.spool import DiskSpool, sha256


class MemorySpool(DiskSpool):
    """Files in a dict; dies on the write number it is told."""

    def __init__(self, crash_at: int = 0) -> None:
        super().__init__(Path("/nowhere"))
        self.files: dict[tuple[str, str], bytes] = {}
        self.left = crash_at

    def write(self, job_id: str, name: str, data: bytes) -> str:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        self.files[job_id, name] = data
        return sha256(data)


def ask(asked: Generate, spool: MemorySpool, engine: NullEngine | None = None) -> Answer:
    return Answer(asked, list((engine or NullEngine()).run(asked, spool)))


@pytest.mark.parametrize("job_type", sorted(IMAGE_TYPES | VIDEO_TYPES))
def test_every_job_type_is_answered_to_the_end(tmp_path: Path, job_type: str) -> None:
    """Images are real PNGs that say what they are; a video says first of all that it is none."""
    spool = MemorySpool()
    answer = ask(request(tmp_path, job_type=job_type, frames=83, steps=3), spool)
    (asset,) = answer.assets
    data = spool.files[answer.request.job_id, asset.name]
    assert (asset.digest, asset.bytes) == (sha256(data), len(data))
    assert [m.step for m in answer.messages if isinstance(m, Progress)] == [1, 2, 3]
    assert answer.generated.engine == "null"
    if job_type in VIDEO_TYPES:
        assert (asset.name, asset.content_type, asset.frames) == ("asset_0.mp4", "video/mp4", 81)
        assert data.startswith(VIDEO_HEAD)
    else:
        picture = Image.open(io.BytesIO(data))
        assert (asset.content_type, picture.size) == ("image/png", (asset.width, asset.height))
        assert "null engine" in picture.text["Software"]  # type: ignore[attr-defined]


def test_ten_job_types_are_spoken() -> None:
    assert len(IMAGE_TYPES | VIDEO_TYPES) == 10


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"prompt": "b"}, {"negative_prompt": "b"}, {"steps": 7}, {"guidance_scale": 7.0}, {"num_images": 3}],
)
def test_bytes_follow_from_the_request_alone(tmp_path: Path, change: dict[str, Any]) -> None:
    """Another engine, another job and another day give the same; another parameter gives others."""
    first, again, other = MemorySpool(), MemorySpool(), MemorySpool()
    ask(request(tmp_path), first)
    ask(request(tmp_path), again)
    ask(request(tmp_path, **change), other)
    one, same, another = (next(iter(spool.files.values())) for spool in (first, again, other))
    assert one == same
    assert one != another


def test_a_model_is_loaded_once(tmp_path: Path) -> None:
    engine, spool = NullEngine(), MemorySpool()
    loads = [sum(isinstance(m, Loaded) for m in ask(request(tmp_path), spool, engine).messages) for _ in range(3)]
    assert loads == [1, 0, 0]


def test_checkpoints_come_only_when_asked_for(tmp_path: Path) -> None:
    engine = NullEngine(checkpoint_every=4)

    def steps(**changes: Any) -> list[int]:
        answer = ask(request(tmp_path, steps=12, **changes), MemorySpool(), engine)
        return [m.step for m in answer.messages if isinstance(m, CheckpointWritten)]

    assert steps() == []
    assert steps(checkpoint_seconds=15.0) == [4, 8]


def test_it_goes_on_from_a_checkpoint_of_the_same_work_only(tmp_path: Path) -> None:
    engine, spool = NullEngine(checkpoint_every=4), DiskSpool(tmp_path / "spool")
    asked = {"steps": 12, "checkpoint_seconds": 0.0, "job_id": "j"}

    def steps(**changes: Any) -> list[int]:
        messages = list(engine.run(request(tmp_path, **{**asked, **changes}), spool))
        other = "seed" in changes
        assert any(isinstance(m, CheckpointDiscarded) for m in messages) == other
        return [m.step for m in messages if isinstance(m, Progress)]

    assert steps() == list(range(1, 13))
    picture = (tmp_path / "spool" / "j" / "asset_0.png").read_bytes()
    assert steps(resume_from="checkpoint_8.null") == [9, 10, 11, 12]
    assert (tmp_path / "spool" / "j" / "asset_0.png").read_bytes() == picture
    assert steps(resume_from="checkpoint_8.null", seed=8) == list(range(1, 13))


def test_it_can_be_crashed_at_every_word_and_every_write(tmp_path: Path) -> None:
    """And run again it ends with the files of an undisturbed run."""
    asked = request(tmp_path, num_images=3, steps=4, checkpoint_seconds=1.0)
    undisturbed = MemorySpool()
    words = len(ask(asked, undisturbed, NullEngine(checkpoint_every=2)).messages)
    for crash in range(1, len(undisturbed.files) + 1):
        spool = MemorySpool(crash_at=crash)
        with pytest.raises(KeyboardInterrupt):
            ask(asked, spool, NullEngine(checkpoint_every=2))
        ask(asked, spool, NullEngine(checkpoint_every=2))
        assert spool.files == undisturbed.files
    for crash in range(words):
        spool = MemorySpool()
        answers: Iterator[FromEngine] = NullEngine(checkpoint_every=2).run(asked, spool)
        for _ in range(crash):
            next(answers)
        answers.close()  # type: ignore[attr-defined]
        ask(asked, spool, NullEngine(checkpoint_every=2))
        assert spool.files == undisturbed.files


def test_done_images_are_left_alone(tmp_path: Path) -> None:
    whole, rest = MemorySpool(), MemorySpool()
    ask(request(tmp_path, num_images=3, job_id="j"), whole)
    ask(request(tmp_path, num_images=3, job_id="j", done=[0, 2]), rest)
    assert rest.files == {("j", "asset_1.png"): whole.files["j", "asset_1.png"]}


def test_it_sleeps_where_it_is_told_to(tmp_path: Path) -> None:
    slept: list[float] = []
    ask(request(tmp_path, steps=3), MemorySpool(), NullEngine(step_seconds=0.5, sleep=slept.append))
    assert slept == [0.5, 0.5, 0.5]


def test_impossible_parameters_fail(tmp_path: Path) -> None:
    failure = ask(request(tmp_path, job_type="opera"), MemorySpool()).failed
    assert failure.message.startswith("Invalid parameters: job type 'opera' is unknown; known: ")


def test_a_prompt_is_enhanced_reproducibly() -> None:
    enhance = Enhance(request_id="r", job_id="j", prompt="a heron", seed=2)
    (one,), (same,) = (list(NullEngine().run(enhance, MemorySpool())) for _ in range(2))
    assert one == same
    assert isinstance(one, Enhanced)
    assert one.text == "a heron, rich colour, fine detail"


class TestReferences:
    def ask(self, tmp_path: Path, *colours: str, **changes: Any) -> tuple[Answer, bytes]:
        """One picture that holds to references of those colours; the answer and its bytes."""
        spool, references = DiskSpool(tmp_path), []
        for role, colour in zip(("start", "end"), colours, strict=False):
            file = io.BytesIO()
            Image.new("RGB", (3, 2), colour).save(file, "PNG")
            name = f"reference_{role}.png"
            references.append(ReferenceFile(role, name, spool.write("j", name, file.getvalue())))
        asked = Generate(**structs.asdict(request(tmp_path, job_id="j")) | {"references": references} | changes)
        answer = Answer(asked, list(NullEngine().run(asked, spool)))
        return answer, spool.read("j", "asset_0.png", answer.assets[0].digest) if answer.assets else b""

    def test_each_thing_about_them_changes_the_picture(self, tmp_path: Path) -> None:
        asked: list[tuple[tuple[str, ...], dict[str, Any]]] = [
            ((), {}),
            (("red",), {}),
            (("blue",), {}),
            (("red", "blue"), {}),
            (("red",), {"reference_strength": 0.9}),
            (("red",), {"reference_type": "character"}),
            (("red",), {"reference_fit": "crop"}),
            (("red",), {"reference_fit": "letterbox"}),
        ]
        drawn = [self.ask(tmp_path, *colours, **changes)[1] for colours, changes in asked]
        assert len(set(drawn)) == len(asked) - 1  # one of the two fits is the one that holds where none is named
        assert self.ask(tmp_path, "red")[1] == drawn[1]

    def test_strength_and_type_change_nothing_without_one(self, tmp_path: Path) -> None:
        assert self.ask(tmp_path, reference_strength=0.9, reference_type="character")[1] == self.ask(tmp_path)[1]

    def test_the_way_is_told_only_where_there_are_any(self, tmp_path: Path) -> None:
        assert self.ask(tmp_path, "red")[0].generated.reference_way == "null"
        assert self.ask(tmp_path)[0].generated.reference_way is None

    @pytest.mark.parametrize("spoilt", ["missing", "another file", "no picture"])
    def test_one_that_cannot_be_opened_fails(self, tmp_path: Path, spoilt: str) -> None:
        spool = DiskSpool(tmp_path)
        digest = spool.write("j", "reference_single.png", b"no picture")
        if spoilt != "no picture":
            digest = "0" * 64
        if spoilt == "missing":
            spool.remove("j")
        reference = ReferenceFile("single", "reference_single.png", digest)
        failure, _ = self.ask(tmp_path, references=[reference])
        assert (failure.failed.error_class, failure.failed.error_type) == ("permanent", "InvalidParameters")
        assert failure.failed.message == "Invalid parameters: the single reference is not in the spool as a picture"
