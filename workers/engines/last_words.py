"""What a program said before it failed: what may be told of it, and what it means. Imports no torch."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from workers.engines.leash import NOT_STARTED
from workers.engines.program import Ended
from workers.errors import GiveUp, Misconfigured, StageEnds, TryAgain

TOLD_LINES: Final = 3
TOLD_LENGTH: Final = 300
"""Characters of a line that are told."""

TRIES: Final = 3
"""A program that has failed so often at a job will fail again, and each time costs minutes of the device."""

_BAR: Final = re.compile(r"\d+%\|.*\|\s*(\d+)/(\d+)\s*\[")
_WINDOW: Final = 16
_NO_MEMORY: Final = ("CUDA out of memory", "CUDA error: out of memory", "OutOfMemoryError", "can't allocate memory")
_NOT_ITS_OPTIONS: Final = ("unrecognized arguments", "the following arguments are required", "ambiguous option")


def bar(line: str) -> tuple[int, int] | None:
    """Step and steps of a progress bar as tqdm draws it, or None for other lines."""
    found = _BAR.search(line)
    return None if found is None else (int(found[1]), int(found[2]))


def told(lines: Iterable[str], prompt: str) -> str:
    """The last lines that are no progress bars, without those that quote the prompt: histories hold none.

    WAN's code logs the prompt in several ways, so a line is left out that shares 16 characters in a row with it, and a
    shorter one that is a part of it.
    """
    kept = [line[:TOLD_LENGTH] for line in lines if bar(line) is None and not _quotes(line, prompt)]
    return "; ".join(kept[-TOLD_LINES:])


def _quotes(line: str, prompt: str) -> bool:
    if 0 < len(prompt) < _WINDOW:
        return re.search(rf"(?<!\w){re.escape(prompt)}(?!\w)", line) is not None
    if len(line) < _WINDOW:
        return line in prompt
    return any(line[at : at + _WINDOW] in prompt for at in range(len(line) - _WINDOW + 1))


def out_of_memory(lines: Sequence[str]) -> bool:
    """Whether the program ended for want of the device's memory, or the host's."""
    return any(words in line for line in lines for words in _NO_MEMORY) or last_error(lines).startswith("MemoryError")


def last_error(lines: Sequence[str]) -> str:
    """The last line that is no progress bar: of a traceback, the exception."""
    return next((line for line in reversed(lines) if bar(line) is None), "")


def failure(script: Path, ended: Ended, errors: Sequence[str], words: str) -> StageEnds:
    """How the stage ends after the program has failed. `words` is what may be told.

    A file or module that is not there is the set-up's fault; a value that it refuses is the job's. Anything else may
    go well the next time.
    """
    last = last_error(errors)
    said = f": {words}" if words else ""
    unusable = ended.code == NOT_STARTED or "can't open file" in last
    if unusable or last.startswith(("ModuleNotFoundError", "ImportError")):
        return Misconfigured(f"{script.name} cannot run here{said}", error_type="ScriptUnusable")
    if any(phrase in last for phrase in _NOT_ITS_OPTIONS):
        return Misconfigured(
            f"{script.name} does not take wan_generate.py's options{said}", error_type="ScriptUnusable"
        )
    if (ended.code == 2 and " error: " in last) or last.startswith("AssertionError"):
        # argparse refuses by exit code 2, WAN's own checks by assertions
        return GiveUp(f"Invalid parameters: {script.name} refused them{said}", error_type="ScriptRefused")
    return TryAgain(f"Generation failed: {script.name} {ended}{said}", error_type="ScriptCrashed", budget=TRIES)
