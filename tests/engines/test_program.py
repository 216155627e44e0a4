"""A program run by the engine ends with all that it started, however it ends, and whoever else ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from workers.engines.program import Program

TREE = """
import json, os, signal, subprocess, sys, time
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(1000)"
children = [
    subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, start_new_session=own) for own in (0, 1)
]
for one in children:
    one.stdout.readline()
open(sys.argv[1] + ".part", "w").write(json.dumps([os.getpid(), *(one.pid for one in children)]))
os.rename(sys.argv[1] + ".part", sys.argv[1])
if sys.argv[2] != "done":
    time.sleep(1000)
"""
"""A program with a child in its group and one in a session of its own; both children do not hear SIGTERM."""

HOLDER = """
import os, sys
from workers.engines.program import Program

with Program([sys.executable, *sys.argv[1:]], os.environ) as program:
    for _ in program.lines():
        if os.path.exists(sys.argv[3]):
            print("there", flush=True)
"""
"""It runs a program, and says so once that has written the file."""


def python(code: str, *arguments: str, grace: float = 0.2) -> Program:
    return Program([sys.executable, "-c", code, *arguments], os.environ, grace=grace)


def until_there(program: Program, file: Path) -> list[psutil.Process]:
    """Read on until the program has written who it is."""
    for _ in program.lines():
        if file.exists():
            break
    return [psutil.Process(pid) for pid in json.loads(file.read_text())]


def all_end(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=20)[1]


def test_it_is_heard_while_it_runs() -> None:
    """Lines as they come, a progress bar before its line has ended, "" while it is silent, and the rest at its end."""
    code = (
        "import sys; sys.stderr.write('loading\\n 50%|# | 1/2 ['); sys.stderr.flush(); sys.stdin.read();"
        "print('out'); sys.stderr.write('\\r100%|##| 2/2 [\\nlast'); sys.exit(3)"
    )
    with python(code) as program:
        heard = list(program.lines())
    assert next(line for line in heard if line) == "loading"
    assert {"50%|# | 1/2 [", "100%|##| 2/2 [", "last"} <= set(heard)
    assert list(program.errors) == ["loading", "50%|# | 1/2 [", "100%|##| 2/2 [", "last"]
    assert list(program.output) == ["out"]
    assert program.ended is not None
    assert (program.ended.code, str(program.ended)) == (3, "ended with exit code 3")
    assert program.ended.peak_rss_gb > 0.001


def test_its_death_by_a_signal_is_its_own() -> None:
    for signum in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        with python(f"import os; os.kill(os.getpid(), {int(signum)})") as program:
            list(program.lines())
        assert program.ended is not None
        assert (program.ended.code, str(program.ended)) == (-signum, f"was killed by {signum.name}")


def test_a_program_that_is_not_there_says_so() -> None:
    with Program(["/nowhere/python"], os.environ) as program:
        list(program.lines())
    assert program.ended is not None
    assert program.ended.code == 127
    assert list(program.errors) == ["/nowhere/python cannot be started: No such file or directory"]


def test_it_may_end_by_itself_when_it_is_asked_to(tmp_path: Path) -> None:
    """SIGTERM first; the exit code shows that its own handler ran."""
    code = (
        "import signal, sys, time, pathlib; signal.signal(signal.SIGTERM, lambda *_: sys.exit(9));"
        "pathlib.Path(sys.argv[1]).write_text('[]'); time.sleep(1000)"
    )
    with python(code, str(tmp_path / "there"), grace=60.0) as program:
        until_there(program, tmp_path / "there")
    assert program.ended is not None
    assert program.ended.code == 9


@pytest.mark.skipif(sys.platform != "linux", reason="orphans in other sessions are found by Linux's means")
@pytest.mark.parametrize("how", ["hears", "deaf", "done"])
def test_nothing_of_it_is_left(tmp_path: Path, how: str) -> None:
    """Left in the middle, whether it hears SIGTERM or not; and where it ends by itself and leaves children behind."""
    with python(TREE, str(tmp_path / "pids"), how) as program:
        tree = until_there(program, tmp_path / "pids") if how != "done" else []
        if how == "done":
            list(program.lines())
    pids = json.loads((tmp_path / "pids").read_text())
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert all_end(tree)
    assert program.ended is not None
    assert program.ended.code == {"hears": -signal.SIGTERM, "deaf": -signal.SIGKILL, "done": 0}[how]


@pytest.mark.skipif(sys.platform != "linux", reason="orphans in other sessions are found by Linux's means")
def test_nothing_outlives_a_killed_holder(tmp_path: Path) -> None:
    """SIGKILL, to the process that runs the program: there is nobody left to clean up but the leash."""
    command = [sys.executable, "-c", HOLDER, "-c", TREE, str(tmp_path / "pids"), "deaf"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        process = psutil.Process(holder.pid)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"there\n"
        tree = [process, *process.children(recursive=True)]
        assert len(tree) == 5  # the leash, the program, and its two children
        holder.kill()
        assert all_end(tree)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_a_killed_leash_takes_the_program_along(tmp_path: Path) -> None:
    with python(TREE, str(tmp_path / "pids"), "deaf") as program:
        program_itself, in_group, in_its_own = until_there(program, tmp_path / "pids")
        psutil.Process(program_itself.ppid()).kill()
        list(program.lines())
    assert program.ended is not None
    assert program.ended.code == -signal.SIGKILL
    assert all_end([program_itself, in_group])
    in_its_own.kill()  # in a session of its own: the one that only a living leash finds
