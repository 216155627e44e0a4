"""Signals and threads that must not end a process in silence, or keep it from ending."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from ourvidz.processes.ingress import serve
from ourvidz.processes.lifelines import Stop


@pytest.fixture
def signals() -> Iterator[None]:
    """The signals are given back afterwards."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def stop(signals: None) -> Stop:
    """One that listens."""
    return Stop().listen()


@pytest.mark.timeout(20)
def test_a_signal_in_the_middle_of_a_wait_does_not_lock_up(stop: Stop) -> None:
    """The handler runs in the main thread, which may hold the lock of the event that the signal sets."""
    for event in (stop.draining, stop.now):
        with getattr(event, "_cond"):  # noqa: B009  # no public way to be inside of a wait
            signal.raise_signal(signal.SIGTERM)
        assert event.wait(10)


def test_the_first_signal_drains_and_the_second_stops(stop: Stop) -> None:
    signal.raise_signal(signal.SIGTERM)
    assert stop.draining.wait(10)
    assert not stop.now.is_set()
    signal.raise_signal(signal.SIGINT)
    assert stop.now.wait(10)


@pytest.mark.usefixtures("signals")
def test_who_has_lost_its_parent_drains_without_a_signal() -> None:
    """And does not stop at once: a parent that is gone is no second signal, however often one looks."""
    nobody = os.getpid()  # whoever our parent is, it is not ourselves
    orphan = Stop(nobody, parent_seconds=0.05).listen()
    assert orphan.draining.wait(10)
    assert not orphan.now.wait(0.2)


@pytest.mark.usefixtures("signals")
def test_who_has_its_parent_works_on() -> None:
    child = Stop(os.getppid(), parent_seconds=0.05).listen()
    assert not child.draining.wait(0.2)


def test_an_ingress_goes_on_after_what_nobody_expected() -> None:
    """Else a list would be served by nobody, in a process that looks well."""
    draining = threading.Event()

    class Troubled:
        calls = 0

        def serve_once(self, timeout: float, *, wait: Callable[[float], object]) -> int:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError("nobody expected this")
            draining.set()
            return 0

    ingress = Troubled()
    serve(ingress, draining)
    assert ingress.calls == 2
