"""Signals and threads that must not end a process in silence, or keep it from ending."""

import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from ourvidz.processes.ingress import serve
from ourvidz.processes.lifelines import Stop


@pytest.fixture
def stop() -> Iterator[Stop]:
    """One that listens, until the signals are given back."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    yield Stop().listen()
    for signum, handler in before.items():
        signal.signal(signum, handler)


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
