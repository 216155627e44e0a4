"""How WAN's original code is called, and what its last words mean."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.asking import request
from tests.engines.scripted import PROGRAM, SCRIPT
from workers.engines.faults import InvalidParameters
from workers.engines.last_words import bar, failure, out_of_memory, told
from workers.engines.messages import Generate, ReferenceFile
from workers.engines.program import Ended
from workers.engines.wan_command import LONGEST_PROMPT, command, environment
from workers.errors import Misconfigured, StageEnds, TryAgain

PROMPT = "a heron at dawn over a misty lake"
FAILED = Ended(code=1, seconds=1.0, peak_rss_gb=0.1)


def line_for(asked: Generate, output: Path = Path("/spool/output.mp4")) -> list[str]:
    return command(SCRIPT, Path("/models/wan"), asked, size=(480, 832), frames=81, output=output)


def wan(spool: Path, **changes: object) -> Generate:
    return request(spool, job_type="video_fast", model="wan_2_1_1_3b", width=480, height=832, **changes)


def test_the_command_is_the_original_s(tmp_path: Path) -> None:
    asked = wan(tmp_path, steps=25, guidance_scale=6.5, seed=2**63 - 1, solver="unipc", shift=5.0, frames=83)
    assert line_for(asked) == [
        sys.executable, str(PROGRAM),
        "--task", "t2v-1.3B", "--ckpt_dir", "/models/wan", "--size", "480*832",
        "--sample_steps", "25", "--sample_guide_scale", "6.5", "--sample_solver", "unipc", "--sample_shift", "5.0",
        "--frame_num", "81", "--offload_model", "True", "--save_file", "/spool/output.mp4",
        "--base_seed", str(2**63 - 1), f"--prompt={PROMPT}",
    ]  # fmt: skip


def test_references_go_by_their_roles(tmp_path: Path) -> None:
    roles = {"single": "--image", "start": "--first_frame", "end": "--last_frame"}
    for named in (["single"], ["start"], ["end"], ["start", "end"]):
        asked = wan(tmp_path, references=[ReferenceFile(role, f"{role}.png", "d") for role in named])
        expected = [part for role in named for part in (roles[role], f"{asked.spool}/{role}.png")]
        assert line_for(asked)[-1 - len(expected) : -1] == expected


@pytest.mark.parametrize("prompt", ["--task=i2v-14B", "-h", "", "two\nlines", "$(reboot) `id` 'a\" ; &", "夜明け 🐦"])
def test_a_prompt_is_one_argument(tmp_path: Path, prompt: str) -> None:
    line = line_for(wan(tmp_path, prompt=prompt))
    assert line[-1] == f"--prompt={prompt}"
    assert len(line) == len(line_for(wan(tmp_path)))


def test_a_prompt_that_no_argument_holds_is_refused(tmp_path: Path) -> None:
    for prompt, sentence in (("é" * LONGEST_PROMPT, "a prompt of 262016 bytes"), ("a\0b", "NUL")):
        with pytest.raises(InvalidParameters, match=sentence):
            line_for(wan(tmp_path, prompt=prompt))


def test_the_environment_is_ours_with_its_device_only() -> None:
    """PYTHONPATH passes; progress bars are drawn again, which the engine's process has switched off."""
    ours = {"PYTHONPATH": "/workspace/Wan2.1", "PATH": "/bin", "TQDM_DISABLE": "1", "HF_HOME": "/cache"}
    made = environment(ours, "cuda:0")
    assert made.pop("CUDA_VISIBLE_DEVICES") == "0"
    assert made == {
        "PYTHONPATH": "/workspace/Wan2.1",
        "PATH": "/bin",
        "HF_HOME": "/cache",
        "PYTHONUNBUFFERED": "1",
        "TORCH_USE_CUDA_DSA": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    for device, outer, visible in (
        ("cuda:1", None, "1"), ("cuda", None, "0"), ("cuda:1", "2,3", "3"), ("cuda:0", "GPU-ab, GPU-cd", "GPU-ab"),
        ("cpu", "0,1", ""),
    ):  # fmt: skip
        shown = {} if outer is None else {"CUDA_VISIBLE_DEVICES": outer}
        assert environment(shown, device)["CUDA_VISIBLE_DEVICES"] == visible
    with pytest.raises(Misconfigured, match="CUDA_VISIBLE_DEVICES shows '2,3'"):
        environment({"CUDA_VISIBLE_DEVICES": "2,3"}, "cuda:2")


def test_progress_is_read_from_bars() -> None:
    assert bar(" 40%|####      | 10/25 [00:12<00:18,  1.2s/it]") == (10, 25)
    assert bar("Loading: 100%|██████████| 2/2 [00:00<00:00]") == (2, 2)
    for line in ("", "10/25 done", "40%|####", " 40%|####      | 10/2", "step 3 of 25"):
        assert bar(line) is None


def test_no_line_that_quotes_the_prompt_is_told() -> None:
    """However it is quoted: whole, as Python writes it, in part; a short one too, as a word."""
    prompt = 'a heron\'s dawn\nover "misty" lakes and far away hills'
    lines = [
        "Input prompt: a heron's dawn",
        'Namespace(prompt=\'a heron\\\'s dawn\\nover "misty" lakes and far away hills\')',
        "50%|#####     | 1/2 [00:01<00:01]",
        "ValueError: no such 'lakes and far away' hills",
        "first", "second", "third", "RuntimeError: it fell over " + "x" * 400,
    ]  # fmt: skip
    said = told([*lines, 'over "misty" lakes and'], prompt)
    assert said.startswith("second; third; RuntimeError: it fell over xxx")
    assert len(said) < 400
    assert told(["the cat sat", "concatenated"], "cat") == "concatenated"


@pytest.mark.parametrize(
    ("code", "last", "error_class", "error_type"),
    [
        (1, "RuntimeError: something", "transient", "ScriptCrashed"),
        (-9, "", "transient", "ScriptCrashed"),
        (1, "ModuleNotFoundError: No module named 'wan'", "misconfiguration", "ScriptUnusable"),
        (2, "python: can't open file '/x.py': [Errno 2] No such file", "misconfiguration", "ScriptUnusable"),
        (127, "/nowhere/python cannot be started: No such file", "misconfiguration", "ScriptUnusable"),
        (2, "x.py: error: unrecognized arguments: --task", "misconfiguration", "ScriptUnusable"),
        (2, "x.py: error: argument --size: invalid choice: '8*8'", "permanent", "ScriptRefused"),
        (1, "AssertionError: Unsupport size 8*8 for task t2v-1.3B", "permanent", "ScriptRefused"),
    ],
)
def test_its_end_has_a_class(code: int, last: str, error_class: str, error_type: str) -> None:
    """What the set-up, what the job is to blame for, and what may go well the next time, though not ten times."""
    end: StageEnds = failure(Path("/x/wan_generate.py"), replace(FAILED, code=code), [last, "50%|## | 1/2 ["], last)
    assert (end.error_class, end.error_type) == (error_class, error_type)
    assert last in end.message
    assert "wan_generate.py" in end.message
    assert not isinstance(end, TryAgain) or end.budget == 3


def test_out_of_memory_is_known_by_its_words() -> None:
    for line in ("torch.OutOfMemoryError: CUDA out of memory. Tried to", "RuntimeError: CUDA error: out of memory",
                 "torch.cuda.OutOfMemoryError: x", "MemoryError"):  # fmt: skip
        assert out_of_memory(["Traceback", line])
    assert not out_of_memory(["RuntimeError: the prompt is out of memory lane"])
