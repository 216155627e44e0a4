"""The command line. `main` is the `ourvidz` script: one sentence on stderr for an error, and an exit code."""

import gc
import os
import sys
import traceback
from collections.abc import Sequence

from ourvidz.exit_codes import ExitCode
from ourvidz.packages import foreign_packages


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    gc.set_threshold(50_000, 20, 20)  # imports make many objects and no garbage: 0.1 s of half a second
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
    code = run(sys.argv[1:] if argv is None else argv)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
        code = ExitCode.BROKEN_PIPE
    sys.exit(int(code))


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code. Errors become one sentence on stderr."""
    mixed = foreign_packages()
    if mixed is not None:
        print(mixed, file=sys.stderr)  # noqa: T201  # stderr is where errors of a command belong
        return ExitCode.ERROR

    from ourvidz.cli.app import app
    from ourvidz.cli.errors import explain
    from ourvidz.cli.face import Face

    face = Face()
    try:
        code = app(list(argv), prog_name="ourvidz", standalone_mode=False, obj=face)
    except (BrokenPipeError, SystemExit):
        # click and rich call sys.exit(1) when nobody reads stdout any more; nothing of ours exits from within.
        _close_stdout()
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the outermost door: whatever it is becomes a sentence and a code
        sentences, exit_code = explain(error)
        if face.verbose:
            traceback.print_exception(error)
        for sentence in sentences:
            print(sentence, file=sys.stderr)  # noqa: T201  # stderr is where errors of a command belong
        return exit_code
    return int(code) if isinstance(code, int) else ExitCode.OK


def _close_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
