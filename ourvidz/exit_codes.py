"""What the exit code of `ourvidz` says. Programs may rely on the numbers; they are never given a new meaning."""

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """One number for each way a command can end."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNKNOWN_JOB = 3
    UNREACHABLE = 4
    WRONG_SETTING = 5
    OLD_SCHEMA = 6
    NOT_COMPLETED = 7
    REFUSED = 8
    NOT_CANCELLED = 9
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.OK: "it went well",
    ExitCode.ERROR: "something went wrong that no other code names; `-v` shows the traceback",
    ExitCode.USAGE: "the command line is not understood",
    ExitCode.UNKNOWN_JOB: "no job or dead letter has this id, or more than one begins with it",
    ExitCode.UNREACHABLE: "the database or Redis does not answer",
    ExitCode.WRONG_SETTING: "a setting is unknown, malformed or not usable here",
    ExitCode.OLD_SCHEMA: "the database's tables are missing or of another version; see `ourvidz db upgrade`",
    ExitCode.NOT_COMPLETED: "a job that was waited for ended as failed or cancelled",
    ExitCode.REFUSED: "the payload, or what was asked of a job, was refused, and the message says why",
    ExitCode.NOT_CANCELLED: "a job that was to be cancelled and waited for ended otherwise",
    ExitCode.INTERRUPTED: "Ctrl-C",
    ExitCode.BROKEN_PIPE: "nobody reads the output any more",
}
"""The documented meaning of each code."""
