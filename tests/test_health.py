"""How a process says how it is: over HTTP, to systemd and to `up`. Busy is well; a loop that stands still is not."""

import json
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ourvidz.layers import SettingsError
from ourvidz.processes.child import Child, together
from ourvidz.processes.condition import Condition, FromChild, ToParent
from ourvidz.processes.health import Health
from ourvidz.processes.notify import Notify
from ourvidz.processes.pulse import Pulse
from ourvidz.processes.telling import Telling


class Process:
    """A process of which a test says how it is."""

    def __init__(self) -> None:
        self.condition = Condition(status="2 jobs in hand")

    def ask(self) -> Condition:
        return self.condition


@pytest.fixture
def process() -> Process:
    return Process()


def get(port: int, path: str, method: str = "GET") -> tuple[int, Any]:
    """Status and JSON of one answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            code, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        code, body = error.code, error.read()
    return code, json.loads(body) if body.startswith(b"{") else body


class TestPulse:
    def test_a_loop_that_stands_still_is_named_with_its_limit(self) -> None:
        now = [0.0]
        pulse = Pulse(lambda: now[0])
        pulse.beat("claim", 60.0)
        pulse.beat("engine 1", 10_000.0)
        now[0] = 60.0
        assert pulse.still() == []
        now[0] = 73.0
        assert pulse.still() == ["claim stands still for 73 s, its limit is 60 s"]
        pulse.beat("claim", 60.0)
        assert pulse.still() == []

    def test_loops_that_are_over_are_not_waited_for(self) -> None:
        now = [0.0]
        pulse = Pulse(lambda: now[0])
        pulse.beat("claim", 1.0)
        pulse.end()
        now[0] = 100.0
        assert pulse.still() == []


class TestHealth:
    @pytest.fixture
    def health(self, process: Process) -> Iterator[Health]:
        health = Health("127.0.0.1:0", process.ask)
        yield health
        health.close()

    def test_a_process_that_is_busy_is_live_and_ready(self, health: Health, process: Process) -> None:
        assert get(health.port, "/live") == (200, {"live": True, "why": []})
        assert get(health.port, "/ready?verbose") == (200, {"ready": True, "why": [], "status": "2 jobs in hand"})
        assert get(health.port, "/ready", "HEAD") == (200, b"")

    def test_one_that_drains_lives_and_takes_no_work(self, health: Health, process: Process) -> None:
        process.condition = Condition(unready=["draining"])
        assert get(health.port, "/live")[0] == 200
        assert get(health.port, "/ready") == (503, {"ready": False, "why": ["draining"], "status": ""})

    def test_one_whose_loop_stands_still_is_neither(self, health: Health, process: Process) -> None:
        why = "claim stands still for 73 s, its limit is 60 s"
        process.condition = Condition(still=[why])
        assert get(health.port, "/live") == (503, {"live": False, "why": [why]})
        assert get(health.port, "/ready")[0] == 503

    def test_nothing_else_is_answered(self, health: Health) -> None:
        assert get(health.port, "/")[0] == 404
        assert get(health.port, "/live", "POST")[0] == 501

    def test_a_taken_address_is_told_in_a_sentence(self, health: Health, process: Process) -> None:
        with pytest.raises(SettingsError, match=f"health_address: 127.0.0.1:{health.port} cannot be listened at"):
            Health(f"127.0.0.1:{health.port}", process.ask)

    def test_who_says_nothing_keeps_nobody_waiting(self, health: Health) -> None:
        with socket.create_connection(("127.0.0.1", health.port)):
            assert get(health.port, "/live")[0] == 200


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        self._socket.settimeout(20)
        self.environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())}

    def heard(self) -> list[str]:
        """The lines of the next datagram."""
        return self._socket.recv(4096).decode().split("\n")

    def until(self, line: str) -> list[str]:
        """All lines up to that one."""
        lines: list[str] = []
        while line not in lines:
            lines += self.heard()
        return lines

    def close(self) -> None:
        self._socket.close()


class TestNotify:
    @pytest.fixture(params=["path", "abstract"])
    def manager(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
        manager = Manager(f"@ourvidz-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify"))
        yield manager
        manager.close()

    def test_it_hears_of_the_whole_life(self, manager: Manager, process: Process) -> None:
        """Ready once, alive as long as the loops move, and no more when one does not."""
        process.condition = Condition(unready=["the engine is being started"])
        notify = Notify.of(manager.environ, os.getpid())
        assert notify.watchdog == 0.2
        with Telling(process.ask, notify=notify) as telling:
            assert manager.heard() == ["WATCHDOG=1", "STATUS=the engine is being started"]
            process.condition = Condition(status="idle")
            assert manager.until("READY=1").count("READY=1") == 1
            manager.until("WATCHDOG=1")
            process.condition = Condition(still=["claim stands still"])
            lines = manager.until("STATUS=claim stands still")
            assert lines[-1] == "STATUS=claim stands still"
            process.condition = Condition(unready=["draining"])
            lines = manager.until("STATUS=draining")
            assert lines == ["WATCHDOG=1", "STATUS=draining"], "no sign of life while it stood still"
            telling.stopping()
            assert "READY=1" not in manager.until("STOPPING=1")

    def test_a_manager_that_is_gone_is_nobodys_end(self, manager: Manager) -> None:
        notify = Notify.of({**manager.environ, "NOTIFY_SOCKET": "/nowhere/notify"}, os.getpid())
        notify.say("READY=1")
        notify.close()

    @pytest.mark.parametrize(
        "changes", [{"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_PID": "1"}]
    )
    def test_a_watchdog_that_is_not_for_us_is_not_fed(self, manager: Manager, changes: dict[str, str]) -> None:
        notify = Notify.of({**manager.environ, **changes}, os.getpid())
        assert notify.watchdog is None
        notify.close()


def test_without_a_manager_nothing_is_said() -> None:
    for address in ("", "vsock:2:1234"):
        notify = Notify.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}, os.getpid())
        notify.say("READY=1")
        assert notify.watchdog is None


class TestChildren:
    """`up` is as ready as the least ready of its children."""

    def told(self, condition: Condition) -> Child:
        """A child that runs, and has said this at second 10."""
        child = Child("worker cpu", ["worker"], {}, channel=FromChild(), started_at=1.0)
        assert child.channel is not None
        mouth = ToParent(os.dup(child.channel.descriptor))
        mouth.tell(Condition())
        mouth.tell(condition)
        mouth.close()
        child.hear(10.0)
        child.process = threading.Thread()  # type: ignore[assignment]  # it is not asked, only there
        return child

    def test_what_a_child_tells_last_is_what_counts(self) -> None:
        child = self.told(Condition(still=["claim stands still"], unready=["draining"], status="1 jobs in hand"))
        assert child.condition(11.0) == Condition(
            still=["worker cpu: claim stands still"],
            unready=["worker cpu: draining"],
            status="worker cpu: 1 jobs in hand",
        )

    def test_a_child_that_falls_silent_stands_still(self) -> None:
        child = self.told(Condition())
        assert child.condition(40.0).ready
        assert child.condition(41.0).still == ["worker cpu is silent for 31 s, its limit is 30 s"]

    def test_one_that_starts_is_not_ready_and_one_that_never_says_anything_is_not_live(self) -> None:
        child = self.told(Condition())
        child.told = None
        assert child.condition(2.0).unready == ["worker cpu is starting"]
        assert not child.condition(182.0).live
        child.process = None
        assert child.condition(2.0) == Condition(unready=["worker cpu does not run"])

    def test_more_than_a_datagram_holds_is_cut(self) -> None:
        child = self.told(Condition(unready=["x" * 10_000] * 100))
        assert [len(why) for why in child.condition(11.0).unready] == [300 + len("worker cpu: ")] * 20

    def test_together_they_are_as_well_as_the_worst(self) -> None:
        assert together([Condition(status="a"), Condition()]) == Condition(status="a")
        worst = together([Condition(), Condition(unready=["draining"]), Condition(still=["claim"])])
        assert (worst.live, worst.ready, worst.unready) == (False, False, ["draining"])
