"""From an exception to what a person reads and a program gets."""

from typing import Final

import typer

from ourvidz.archive.errors import ArchiveBusy, ArchiveDamaged
from ourvidz.exit_codes import ExitCode
from ourvidz.layers import SettingsError
from ourvidz.masking import mask
from ourvidz.wording import clause
from statemachine.errors import NotAllowed, SchemaMismatch, StoreAway, UnknownJob, UnreadableHistory
from workers.errors import Misconfigured

# Typer brings its own click or uses the installed one; its base class is reached from what typer itself exports.
ClickError: Final[type[Exception]] = typer.BadParameter.__mro__[2]


class CommandError(Exception):
    """One sentence and the code with which the command ends."""

    def __init__(self, sentence: str, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(sentence)
        self.code = code


_CODES: Final[tuple[tuple[type[Exception], ExitCode], ...]] = (
    (UnknownJob, ExitCode.UNKNOWN_JOB),
    (StoreAway, ExitCode.UNREACHABLE),
    (NotAllowed, ExitCode.REFUSED),
    (SchemaMismatch, ExitCode.OLD_SCHEMA),
    (Misconfigured, ExitCode.WRONG_SETTING),
    (UnreadableHistory, ExitCode.ERROR),
    (ArchiveDamaged, ExitCode.ERROR),
    (ArchiveBusy, ExitCode.REFUSED),
)


def explain(error: Exception) -> tuple[list[str], int]:
    """The sentences for stderr, masked, and the exit code."""
    if isinstance(error, SettingsError):
        return [mask(sentence) for sentence in error.sentences], ExitCode.WRONG_SETTING
    if isinstance(error, CommandError):
        return [mask(str(error))], error.code
    if isinstance(error, ClickError):
        return _usage(error)
    if isinstance(error, typer.Abort):
        return [], ExitCode.INTERRUPTED
    for kind, code in _CODES:
        if isinstance(error, kind):
            return [mask(str(error))], code
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return [f"{where}{error.strerror}"], ExitCode.ERROR
    said = clause(mask(str(error)), 300)
    sentence = f"unexpected {type(error).__name__}{f': {said}' if said else ''} (`ourvidz -v …` shows the traceback)"
    return [sentence], ExitCode.ERROR


def _usage(error: Exception) -> tuple[list[str], int]:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "ourvidz")
    said = str(error.format_message() if hasattr(error, "format_message") else error)
    said = said.replace("Value error, ", "", 1)  # what typer's converter puts before its own sentences
    if type(error).__name__ == "NoArgsIsHelpError":
        return [said], ExitCode.USAGE
    return [f"{clause(said, 400)} (see `{path} --help`)"], ExitCode.USAGE
