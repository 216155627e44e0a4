"""Redis as one ingress sees it: lists that outlive every process."""

from collections import defaultdict, deque
from collections.abc import Sequence

from tests.fakes import Effect, FakeClock, around


class Server:
    """What survives: lists by name, and until when each ingress lives. Right is old, left is new."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.lists: defaultdict[str, deque[bytes]] = defaultdict(deque)
        self.processing: defaultdict[tuple[str, str], deque[bytes]] = defaultdict(deque)
        self.alive: dict[tuple[str, str], float] = {}

    def empty(self) -> bool:
        """Nothing lies in any list."""
        return not any(self.lists.values()) and not any(self.processing.values())


class FakeLists:
    """`workers.lists.Lists` over `Server`."""

    def __init__(self, server: Server, queue: str, name: str, effect: Effect) -> None:
        self.queue = queue
        self._server = server
        self._own = (queue, name)
        self._effect = effect

    def take(self, timeout: float) -> bytes | None:
        """Never waits: nobody else runs in the meantime."""
        taken = self.take_now(1)
        return taken[0] if taken else None

    def take_now(self, at_most: int) -> list[bytes]:
        taken: list[bytes] = []
        while self._server.lists[self.queue] and len(taken) < at_most:
            with around(self._effect, "lists.take"):
                if self._server.lists[self.queue]:  # in the meantime another ingress may have been quicker
                    taken.append(self._server.lists[self.queue].pop())
                    self._server.processing[self._own].appendleft(taken[-1])
        return taken

    def held(self, at_most: int) -> list[bytes]:
        return list(reversed(self._server.processing[self._own]))[:at_most]

    def drop(self, payloads: Sequence[bytes]) -> int:
        dropped = 0
        for payload in payloads:
            with around(self._effect, "lists.drop"):
                if payload in self._server.processing[self._own]:
                    self._server.processing[self._own].remove(payload)
                    dropped += 1
        return dropped

    def push(self, payloads: Sequence[bytes]) -> None:
        self._server.lists[self.queue].extendleft(payloads)

    def waiting(self) -> int:
        return len(self._server.lists[self.queue])

    def beat(self, ttl: float) -> None:
        self._server.alive[self._own] = self._server.clock.monotonic() + ttl

    def clear_dead(self) -> int:
        given = 0
        for (queue, name), held in list(self._server.processing.items()):
            if queue != self.queue or self._server.alive.get((queue, name), 0.0) > self._server.clock.monotonic():
                continue
            while held:
                with around(self._effect, "lists.clear"):
                    self._server.lists[queue].append(held.popleft())
                    given += 1
        return given

    def leave(self) -> int:
        self._server.alive.pop(self._own, None)
        held = self._server.processing[self._own]
        given = len(held)
        while held:
            self._server.lists[self.queue].append(held.popleft())
        return given
