"""A program on a leash: `python -m workers.engines.leash LIFELINE GRACE PROGRAM ...` ends with all that it started.

The leash runs the program, and ends as it ends: with its exit code, or by the same signal. LIFELINE is an inherited
pipe's reading end, held open by whoever wants the program. SIGTERM asks the program and its children to end, and kills
them GRACE seconds later; the end of the lifeline kills them at once, for then nobody waits for anything. What the
program leaves behind when it ends is killed too, also what has gone to a session of its own (Linux).

A process of its own, for it must outlive a killed engine; and no more than this, so that nothing in it can hang.
"""

import ctypes
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from workers.lifeline import die_with_parent

_PR_SET_CHILD_SUBREAPER: Final = 36
NOT_STARTED: Final = 127
"""Exit code when the program could not even be started; the reason is on standard error."""


def main() -> None:
    """Run the program to its end, or end it."""
    lifeline, grace, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    os.set_inheritable(lifeline, False)
    _adopt_orphans()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # see _end_as
    wake, waker = os.pipe()
    for end in (wake, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for signum in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)  # a handler and not SIG_IGN, which the program would inherit
    leash = os.getpid()
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=lambda: _leashed(leash))
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        raise SystemExit(NOT_STARTED) from None
    status = _watch(program.pid, lifeline, wake, grace)
    _end_all()
    if status is None:
        os.killpg(0, signal.SIGKILL)
    else:
        _end_as(status)


def _watch(program: int, lifeline: int, wake: int, grace: float) -> int | None:
    """Wait for the program's end and return its status; None when it has to be killed."""
    deadline: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(lifeline, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            ready = selector.select(None if deadline is None else max(0.0, deadline - time.monotonic()))
            for key, _ in ready:
                if key.fd == lifeline:
                    os.kill(program, signal.SIGKILL)
                    return None
                if signal.SIGTERM in os.read(wake, 512) and deadline is None:
                    deadline = time.monotonic() + grace
                    os.killpg(0, signal.SIGTERM)
            if (status := _reaped(program)) is not None:
                return status
            if deadline is not None and time.monotonic() >= deadline:
                os.kill(program, signal.SIGKILL)
                return os.waitpid(program, 0)[1]


def _reaped(program: int) -> int | None:
    """Reap whatever has ended, adopted orphans among it; the program's status if it was there."""
    found = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found = ended[1] if ended[0] == program else found
    except ChildProcessError:
        return found
    return found


def _end_all() -> None:
    """Kill every child, and what each leaves behind, which becomes a child of ours in its turn."""
    while True:
        for child in _children():
            os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    """Our children, zombies too, by Linux's /proc; elsewhere nothing is adopted, and there are none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if int(after_name[1]) == os.getpid():
            found.append(int(entry.parent.name))
    return found


def _end_as(status: int) -> None:
    """End as the program did; by a signal without a core file of our own."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    raise SystemExit(code)


def _adopt_orphans() -> None:
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")


def _leashed(leash: int) -> None:
    """In the child, before it becomes the program: no other thread runs in the leash, so this is safe there."""
    die_with_parent(leash, signal.SIGKILL)


if __name__ == "__main__":
    main()
