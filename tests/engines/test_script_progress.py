"""What a script's progress bars become."""

from pathlib import Path

from tests.engines.asking import request
from tests.engines.scripted import original_folder
from workers.engines.last_words import told
from workers.engines.messages import Alive, Loaded, Message, Progress
from workers.engines.script_progress import BEAT_SECONDS, ScriptProgress
from workers.models import inspect_model


def test_bars_become_steps_and_silence_a_sign_of_life(tmp_path: Path) -> None:
    """Bars of other lengths are other work; a step that is told twice, or went by unseen, counts once."""
    said: list[Message] = []
    spec = inspect_model("wan", "wan", original_folder(tmp_path / "wan"), original=True)
    progress = ScriptProgress(request(tmp_path, steps=25), spec, said.append)

    def heard(line: str, now: float) -> list[Message]:
        said.clear()
        progress.hear(line, now)
        return list(said)

    assert said == [Alive(request_id=progress._request.request_id, doing="loading wan")]
    assert heard("Loading checkpoint shards: 100%|##| 2/2 [00:05<00:00]", 5.0) == []
    assert heard("", BEAT_SECONDS) != []
    (loaded,) = heard("  0%|   | 0/25 [00:00<?, ?it/s]", 40.0)
    assert isinstance(loaded, Loaded)
    assert (loaded.seconds, loaded.bytes) == (40.0, spec.bytes)
    (first,) = heard("  4%|   | 1/25 [00:02<00:48]", 42.0)
    assert isinstance(first, Progress)
    assert (first.step, first.of, first.seconds) == (1, 25, 2.0)
    assert heard("  4%|   | 1/25 [00:02<00:48]", 43.0) == []
    (third,) = heard(" 12%|#  | 3/25 [00:06<00:44]", 46.0)
    assert isinstance(third, Progress)
    assert (third.step, third.seconds) == (3, 4.0)
    assert heard("", 46.0 + BEAT_SECONDS / 2) == []
    (alive,) = heard("", 46.0 + BEAT_SECONDS)
    assert isinstance(alive, Alive)
    assert alive.doing == "step 4 of 25"
    last, decoding = heard("100%|###| 25/25 [00:50<00:00]", 90.0)
    assert isinstance(last, Progress)
    assert isinstance(decoding, Alive)
    assert decoding.doing == "decoding"


def test_a_prompt_of_short_lines_is_not_told() -> None:
    """Logged as it is, it comes line by line."""
    prompt = "a grey heron\nat dawn\nmist over a lake"
    assert told([*prompt.splitlines(), "RuntimeError: 7"], prompt) == "RuntimeError: 7"
