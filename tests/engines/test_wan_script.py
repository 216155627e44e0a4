"""WAN's original code as an engine: real files from another program, and a sentence for each way in which it fails."""

import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy
import psutil
import pytest
from PIL import Image

from statemachine.job import Asset
from tests.engines.asking import Studio, request
from tests.engines.scripted import PROGRAM, SCRIPT, original_folder
from tests.programs.wan_generate import write_video
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig, WanScript
from workers.engines.drawing import Host
from workers.engines.faults import Cancelled, InvalidParameters, failed
from workers.engines.messages import (
    Alive,
    AssetWritten,
    Failed,
    Generate,
    Generated,
    Loaded,
    Message,
    Progress,
    Reduced,
    ReferenceFile,
)
from workers.engines.wan_script import WanScriptDrawing
from workers.errors import Misconfigured, StageEnds
from workers.models import ModelSpec, inspect_model
from workers.output_check import DRAWING, check
from workers.ports import EngineDied
from workers.spool import sha256

VERSIONS = {"ourvidz": "0", "av": "18", "pillow": "13", "torch": "2"}
HOST = Host(engine="diffusers", device="cpu", device_name="a CPU", threads=1, versions=VERSIONS, embed_prompt=True)


def wan(spool: Path, words: str = "", **changes: Any) -> Generate:
    """A video of 5 frames of 64 x 96 in 4 steps; `words` tell the program what to do."""
    asked: dict[str, Any] = {
        "job_type": "video_fast",
        "model": "wan_2_1_1_3b",
        "prompt": f"a heron at dawn over a misty lake {words}",
        "width": 480,
        "height": 832,
        "steps": 4,
        "frames": 5,
        "solver": "unipc",
        "shift": 5.0,
    }
    return request(spool, **{**asked, **changes})


@dataclass
class Easel:
    """One drawing at a time, in this process: what it says, and what it leaves in the spool."""

    spec: ModelSpec
    spool: Path
    said: list[Message] = field(default_factory=list)
    rooms: int = 0

    def drawing(self, asked: Generate, script: WanScript = SCRIPT) -> WanScriptDrawing:
        def make_room() -> None:
            self.rooms += 1

        self.said = []
        return WanScriptDrawing(script, HOST, self.spec, asked, self.said.append, make_room, grace=0.2)

    def draw(self, words: str = "", script: WanScript = SCRIPT, **changes: Any) -> tuple[AssetWritten, bytes]:
        asked = wan(self.spool, words, **changes)
        drawing = self.drawing(asked, script)
        drawing.denoise(lambda: False)
        drawing.finish()
        (asset,) = self.heard(AssetWritten)
        assert [file.name for file in Path(asked.spool).iterdir() if file.suffix != ".ref"] == [asset.name]
        data = (Path(asked.spool) / asset.name).read_bytes()
        assert sha256(data) == asset.digest
        return asset, data

    def heard(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]

    def told(self) -> dict[str, Any]:
        """How the program was called."""
        found: dict[str, Any] = json.loads((self.spec.path.parent / "told.json").read_text())
        return found


@pytest.fixture
def easel(tmp_path: Path) -> Easel:
    folder = original_folder(tmp_path / "wan")
    spec = inspect_model("wan_2_1_1_3b", "wan", folder, compute_digest=True, original=True)
    assert spec.problem is None
    return Easel(spec, tmp_path)


def decode(data: bytes) -> Any:
    with av.open(io.BytesIO(data), "r") as container:
        return numpy.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def stored(asset: AssetWritten, data: bytes) -> None:
    """What the check before the upload says of it."""
    told = {name: getattr(asset, name) for name in Asset.__struct_fields__ if hasattr(asset, name)}
    check(Asset(**{**told, "run": 1}), data)


def test_a_video_passes_as_it_is_with_its_index_in_front(easel: Easel, tmp_path: Path) -> None:
    """Not a bit of its pictures is changed; only the container is written anew, with the parameters in it."""
    asset, data = easel.draw()
    assert (asset.width, asset.height, asset.frames, asset.content_type) == (64, 96, 5, "video/mp4")
    stored(asset, data)
    write_video(tmp_path / "direct.mp4", 7, 5, 64, 96)
    direct = (tmp_path / "direct.mp4").read_bytes()
    assert direct.find(b"moov") > direct.find(b"mdat") > 0
    assert packets(data) == packets(direct)
    with av.open(io.BytesIO(data), "r") as container:
        told = json.loads(container.metadata["comment"])
    assert (told["seed"], told["steps"], told["size"], told["model_digest"]) == ("7", "4", "64x96", easel.spec.digest)
    assert easel.draw(seed=8)[1] != data


def packets(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r") as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("words", ["!mpeg4", "!fast"])
def test_another_codec_or_pace_is_encoded_again(easel: Easel, tmp_path: Path, words: str) -> None:
    asset, data = easel.draw(words)
    stored(asset, data)
    with av.open(io.BytesIO(data), "r") as container:
        (stream,) = container.streams.video
        assert (stream.codec_context.name, stream.average_rate) == ("h264", Fraction(16))
    assert numpy.abs(decode(data).astype(float) - decode(easel.draw()[1])).mean() < 6


def test_one_frame_is_taken_out_as_a_picture(easel: Easel, tmp_path: Path) -> None:
    asset, data = easel.draw("!told", frames=1, job_type="image_fast")
    assert (asset.name, asset.content_type, asset.frames) == ("asset_0.png", "image/png", 1)
    stored(asset, data)
    assert easel.told()["argv"][easel.told()["argv"].index("--save_file") + 1].endswith(".mp4")
    assert Image.open(io.BytesIO(data)).text["solver"] == "unipc"  # type: ignore[attr-defined]


def test_its_progress_is_ours(easel: Easel) -> None:
    """Loading until its first bar, each step, decoding; and the last word names the engine and the script."""
    easel.draw()
    steps = [(message.step, message.of) for message in easel.heard(Progress)]
    assert steps[-1] == (4, 4)
    assert steps == sorted(set(steps))
    (loaded,) = easel.heard(Loaded)
    assert (loaded.model, loaded.bytes, loaded.digest) == ("wan_2_1_1_3b", easel.spec.bytes, easel.spec.digest)
    assert [message.doing for message in easel.heard(Alive)] == ["loading wan_2_1_1_3b", "decoding"]
    last = easel.said[-1]
    assert isinstance(last, Generated)
    assert (last.engine, last.model_digest, last.render_scale) == ("wan_script", easel.spec.digest, "1/8")
    assert last.engine in DRAWING
    assert last.versions["wan_script"] == sha256(PROGRAM.read_bytes())[:16]
    assert "torch" not in last.versions  # ours has drawn nothing
    assert last.device_seconds > 0
    assert last.memory["peak_rss_gb"] > 0.01
    assert easel.rooms == 1


def test_it_is_called_without_a_shell_and_without_the_gpu_of_others(easel: Easel) -> None:
    prompt = "--task=i2v-14B $(touch x) !told"
    easel.draw(prompt=prompt)
    told = easel.told()
    assert told["argv"][-1] == f"--prompt={prompt}"
    assert told["environment"]["CUDA_VISIBLE_DEVICES"] == ""
    assert told["environment"]["PYTHONUNBUFFERED"] == "1"


def reference(spool: Path, role: str) -> ReferenceFile:
    Image.new("RGB", (8, 8), "red").save(spool / f"{role}.ref", "PNG")
    return ReferenceFile(role, f"{role}.ref", sha256((spool / f"{role}.ref").read_bytes()))


def test_references_that_it_ignores_are_told(easel: Easel) -> None:
    """They are passed on as the original's command has them; whether they count is for the setting to say."""
    for honours in (False, True):
        asked = wan(easel.spool, "!told")
        roles = [reference(Path(asked.spool), role) for role in ("start", "end")]
        drawing = easel.drawing(replace_request(asked, references=roles), replace(SCRIPT, references=honours))
        drawing.denoise(lambda: False)
        drawing.finish()
        argv = easel.told()["argv"]
        assert argv[argv.index("--first_frame") + 1] == f"{asked.spool}/start.ref"
        assert argv[argv.index("--last_frame") + 1] == f"{asked.spool}/end.ref"
        assert easel.said[-1].reference_way == ("script" if honours else None)  # type: ignore[attr-defined]
        reduced = easel.heard(Reduced)
        assert [message.what for message in reduced] == ([] if honours else ["references"])
        assert honours or "--first_frame, --last_frame" in reduced[0].why


def replace_request(asked: Generate, **changes: Any) -> Generate:
    return msgspec.structs.replace(asked, **changes)


def test_a_reference_that_was_changed_is_not_used(easel: Easel) -> None:
    asked = wan(easel.spool)
    told = reference(Path(asked.spool), "single")
    broken = replace_request(asked, references=[ReferenceFile(told.role, told.name, "0" * 64)])
    with pytest.raises(StageEnds) as ended:
        easel.drawing(broken).denoise(lambda: False)
    assert ended.value.error_type == "ReferenceLost"


@pytest.mark.parametrize(
    ("words", "error_class", "error_type", "sentence"),
    [
        ("!crash", "transient", "ScriptCrashed", "wan_generate.py ended with exit code 1: "),
        ("!killed", "transient", "ScriptCrashed", "wan_generate.py was killed by SIGKILL"),
        ("!unsupported", "permanent", "ScriptRefused", "refused them: .*AssertionError: Unsupport size 64"),
        ("!module", "misconfiguration", "ScriptUnusable", "cannot run here: .*No module named 'wan'"),
        ("!nothing", "transient", "OutputMissing", "ended well and wrote no file: cache_video failed, error: no space"),
        ("!text", "transient", "OutputUnreadable", "wrote a text instead of a video: Error: the server has refused"),
        ("!truncated", "transient", "OutputUnreadable", "wrote what is no whole video: it is truncated"),
        ("!picture", "permanent", "OutputKind", "wrote a picture where a video was asked"),
        ("!more", "permanent", "OutputFrames", "made 9 frames instead of 5"),
        ("!small", "permanent", "OutputSize", r"made 32\*48 pixels instead of 64\*96"),
        ("!memory", "device_memory", "MemoryError", "Insufficient VRAM for generation"),
    ],
)
def test_each_failure_has_a_sentence(
    easel: Easel, words: str, error_class: str, error_type: str, sentence: str
) -> None:
    """The last lines of its standard error are in it, the prompt never; and nothing is left in the spool."""
    asked = wan(easel.spool, words)
    drawing = easel.drawing(asked)
    with pytest.raises((StageEnds, MemoryError)) as ended:
        drawing.denoise(lambda: False)
        drawing.finish()
    failure = failed("r", ended.value)
    assert (failure.error_class, failure.error_type) == (error_class, error_type)
    assert re.search(sentence, failure.message), failure.message
    assert "misty lake" not in failure.message
    assert (failure.budget is None) == (error_class != "transient")
    assert list(Path(asked.spool).iterdir()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_images": 3}, "WAN makes 1 picture or video a job, got num_images 3"),
        ({"solver": "dpm++"}, "the solver must be unipc, got dpm"),
        ({"references": [ReferenceFile("style", "x", "d")]}, "takes references as single, start, end; got style"),
    ],
)
def test_what_wan_does_not_do_is_refused_before_it_runs(easel: Easel, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidParameters, match=sentence):
        easel.drawing(wan(easel.spool, **change))


def test_a_script_that_is_not_there_is_the_set_up_s_fault(easel: Easel) -> None:
    with pytest.raises(Misconfigured, match=r"wan_script: .*gone\.py is no file"):
        easel.drawing(wan(easel.spool), replace(SCRIPT, path=Path("/nowhere/gone.py")))
    drawing = easel.drawing(wan(easel.spool), replace(SCRIPT, python=Path("/nowhere/python")))
    with pytest.raises(Misconfigured, match=r"/nowhere/python cannot be started"):
        drawing.denoise(lambda: False)


def until_hanging(easel: Easel) -> Callable[[], bool]:
    return (easel.spec.path.parent / "pids").exists


def nobody_left(easel: Easel) -> bool:
    """The program, its child, and the child in a session of its own; none of them hears SIGTERM."""
    there = easel.spec.path.parent / "pids"
    pids = [int(pid) for pid in there.read_text().split()] if there.exists() else []
    return len(pids) == 3 and not psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], 20)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="orphans in other sessions are found by Linux's means")
def test_cancelling_ends_all_of_it(easel: Easel) -> None:
    asked = wan(easel.spool, "!hang")
    drawing = easel.drawing(asked)
    with pytest.raises(Cancelled):
        drawing.denoise(until_hanging(easel))
    assert nobody_left(easel)
    assert list(Path(asked.spool).iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="orphans in other sessions are found by Linux's means")
def test_its_time_limit_ends_all_of_it(easel: Easel) -> None:
    drawing = easel.drawing(wan(easel.spool, "!hang"), replace(SCRIPT, seconds=3.0))
    with pytest.raises(StageEnds, match=r"wan_generate\.py was ended after 3 s, at (step|loading)") as ended:
        drawing.denoise(lambda: False)
    assert (ended.value.error_class, ended.value.error_type) == ("transient", "ScriptTookTooLong")
    assert nobody_left(easel) or "loading" in ended.value.message  # a machine so busy has started no children by then


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """A whole engine process whose WAN is the program."""
    root = tmp_path_factory.mktemp("scripted")
    config = EngineConfig(
        engine="diffusers",
        device="cpu",
        lock_dir=root / "locks",
        models={"wan_2_1_1_3b": original_folder(root / "wan")},
        wan_script=SCRIPT,
        threads=1,
    )
    engine = EngineProcess(config)
    yield engine
    engine.close()


def ask(studio: Studio, words: str, **changes: Any) -> list[Any]:
    folder = studio.spool / words.replace("!", "asked-")
    folder.mkdir()
    return list(studio.engine.run(wan(folder, words, **changes)))


def test_the_engine_draws_by_it(scripted: EngineProcess, tmp_path: Path) -> None:
    """Chosen by the settings; progress bars are drawn though the engine's process has switched them off for itself."""
    studio = Studio(scripted, tmp_path)
    answer = ask(studio, "!told")
    assert answer[-1].engine == "wan_script"
    assert any(isinstance(message, Progress) for message in answer)
    (asset,) = [message for message in answer if isinstance(message, AssetWritten)]
    assert asset.frames == 5
    nothing = ask(studio, "!done", done=[0])
    assert isinstance(nothing[-1], Generated)
    assert nothing[-1].device_seconds == 0


def test_out_of_memory_the_others_go_first(scripted: EngineProcess, tmp_path: Path) -> None:
    """There are none, so it is the end; the engine itself goes on."""
    last = ask(Studio(scripted, tmp_path), "!memory")[-1]
    assert isinstance(last, Failed)
    assert (last.error_class, last.message) == ("device_memory", "Insufficient VRAM for generation")


@pytest.mark.skipif(sys.platform != "linux", reason="orphans in other sessions are found by Linux's means")
def test_nothing_outlives_a_killed_engine(scripted: EngineProcess, tmp_path: Path) -> None:
    """SIGKILL in the middle of a job, with a program that does not hear SIGTERM and has children."""
    studio = Studio(scripted, tmp_path)
    pids = scripted.config.models["wan_2_1_1_3b"].parent / "pids"
    pids.unlink(missing_ok=True)
    answers = scripted.run(wan(tmp_path, "!hang"))
    for message in answers:
        if isinstance(message, Progress) and message.step == 3:
            break  # by now it hangs, and has told who its children are
    engine = psutil.Process(scripted.ready().pid)
    tree = engine.children(recursive=True)
    assert {int(pid) for pid in pids.read_text().split()} < {process.pid for process in tree}
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineDied):
        list(answers)
    assert not psutil.wait_procs([engine, *tree], 20)[1]
    assert isinstance(ask(studio, "!again")[-1], Generated)
