"""The Redis lists through which jobs come in, as one ingress sees one of them.

    <queue>                        the producer pushes left, we take right
    ourvidz:in:<queue>:<name>      what this ingress holds: newest left, oldest right
    ourvidz:in:<queue>:<name>:up   there while it lives (expires)
    ourvidz:in:<queue>             who ever took from it: name → last sign of life, for clearing the dead

A payload moves in one command and is removed only by value, so at no instant is it outside of a list.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PREFIX: Final = "ourvidz:in"
REMEMBERED: Final = 7 * 24 * 3600
"""Seconds for which a dead ingress is still looked after. A stopped process may wake and take one payload more."""


class ListsAway(Exception):
    """Redis does not serve us now; one sentence says why, without the password. What was moved lies in a list."""


class Lists(Protocol):
    """One of the producer's lists and this ingress's own processing list. Every method may raise `ListsAway`."""

    @property
    def queue(self) -> str:
        """The name of the producer's list."""

    def take(self, timeout: float) -> bytes | None:
        """Move the oldest payload into our processing list and return it; wait for one up to `timeout` seconds."""

    def take_now(self, at_most: int) -> list[bytes]:
        """Move up to so many, oldest first, without waiting."""

    def held(self, at_most: int) -> list[bytes]:
        """The oldest payloads of our processing list, oldest first."""

    def drop(self, payloads: Sequence[bytes]) -> int:
        """Remove each once from our processing list; return how many were there."""

    def push(self, payloads: Sequence[bytes]) -> None:
        """Put payloads behind all others, as the producer does."""

    def waiting(self) -> int:
        """How many nobody has taken."""

    def beat(self, ttl: float) -> None:
        """Say that this ingress lives for `ttl` seconds more."""

    def clear_dead(self) -> int:
        """Give back what dead ingresses hold, in its order, to be taken next. Return how many payloads."""

    def leave(self) -> int:
        """Give back what we hold and say good-bye. Return how many payloads."""


class RedisLists:
    """`Lists` on a Redis 6.2 or later, or Valkey. Not shared between threads that block."""

    def __init__(self, url: str, queue: str, name: str, *, socket_timeout: float = 10.0) -> None:
        self.queue = queue
        self.name = name
        self.address = address(url)
        self._registry = f"{PREFIX}:{queue}"
        self._own = self._processing(name)
        self._longest_wait = max(0.1, socket_timeout - 2.0)  # a longer block would look like a dead connection
        self._redis = connect(url, socket_timeout=socket_timeout)

    def take(self, timeout: float) -> bytes | None:
        """See `Lists.take`. Waits at most two seconds less than the socket's time limit."""
        with self._trouble():
            # Never 0: that would wait for ever.
            seconds = max(0.01, min(timeout, self._longest_wait))
            moved = self._redis.blmove(self.queue, self._own, cast(int, seconds), "RIGHT", "LEFT")
            return cast(bytes | None, moved)

    def take_now(self, at_most: int) -> list[bytes]:
        """See `Lists.take_now`."""
        with self._trouble():
            count = min(at_most, self._redis.llen(self.queue))
            if count <= 0:
                return []
            moved = self._each(lambda p: [p.lmove(self.queue, self._own, "RIGHT", "LEFT") for _ in range(count)])
            return [raw for raw in moved if raw is not None]

    def held(self, at_most: int) -> list[bytes]:
        """See `Lists.held`."""
        with self._trouble():
            return cast(list[bytes], self._redis.lrange(self._own, -at_most, -1))[::-1]

    def drop(self, payloads: Sequence[bytes]) -> int:
        """See `Lists.drop`."""
        with self._trouble():
            # -1: from the right, where the oldest are, and only one of several that are equal.
            return sum(self._each(lambda p: [p.lrem(self._own, -1, cast(str, raw)) for raw in payloads]))

    def push(self, payloads: Sequence[bytes]) -> None:
        """See `Lists.push`."""
        with self._trouble():
            if payloads:
                self._redis.lpush(self.queue, *payloads)

    def waiting(self) -> int:
        """See `Lists.waiting`."""
        with self._trouble():
            return self._redis.llen(self.queue)

    def beat(self, ttl: float) -> None:
        """See `Lists.beat`."""
        with self._trouble():
            now = self._server_time()
            self._each(
                lambda p: [
                    p.set(f"{self._own}:up", b"1", px=max(1, int(ttl * 1000))),
                    p.zadd(self._registry, {self.name: now}),
                ]
            )

    def clear_dead(self) -> int:
        """See `Lists.clear_dead`. Two living ones may do this at once: each payload moves once."""
        with self._trouble():
            given = 0
            seen = cast(list[tuple[bytes, float]], self._redis.zrange(self._registry, 0, -1, withscores=True))
            now = self._server_time()
            for raw_name, last in seen:
                name = raw_name.decode("utf-8", "replace")
                if name == self.name or self._redis.exists(f"{self._processing(name)}:up"):
                    continue
                given += self._give_back(name)
                if now - last > REMEMBERED:
                    self._redis.zrem(self._registry, raw_name)
            return given

    def leave(self) -> int:
        """See `Lists.leave`."""
        with self._trouble():
            given = self._give_back(self.name)
            self._each(lambda p: [p.delete(f"{self._own}:up"), p.zrem(self._registry, self.name)])
            self._redis.close()
            return given

    def _processing(self, name: str) -> str:
        return f"{PREFIX}:{self.queue}:{name}"

    def _give_back(self, name: str) -> int:
        # Newest first onto the right end, so that the oldest stands outermost and is taken next.
        given = 0
        while self._redis.lmove(self._processing(name), self.queue, "LEFT", "RIGHT") is not None:
            given += 1
        return given

    def _server_time(self) -> float:
        seconds, micros = self._redis.time()
        return seconds + micros / 1e6

    def _each(self, queue_up: Callable[[Any], object]) -> list[Any]:
        """Send several commands in one packet and return their answers; the first error among them is raised."""
        pipeline = self._redis.pipeline(transaction=False)
        queue_up(pipeline)
        return list(pipeline.execute())

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except redis.exceptions.RedisError as error:
            raise ListsAway(sentence(error, self.address)) from error


def lengths(url: str, queues: Sequence[str]) -> dict[str, int]:
    """Queue → payloads that are in its list or with an ingress, and not in the store yet. Raises ListsAway."""
    client = connect(url, socket_timeout=5.0)
    try:
        found: dict[str, int] = {}
        for queue in queues:
            names = [
                raw.decode("utf-8", "replace") for raw in cast(list[bytes], client.zrange(f"{PREFIX}:{queue}", 0, -1))
            ]
            held = [f"{PREFIX}:{queue}:{name}" for name in names]
            found[queue] = sum(int(client.llen(one)) for one in (queue, *held))
        return found
    except redis.exceptions.RedisError as error:
        raise ListsAway(sentence(error, address(url))) from error
    finally:
        client.close()


def connect(url: str, *, socket_timeout: float = 10.0) -> redis.Redis:
    """A client of our own habits. Raises ValueError for a URL that is none, without quoting its password."""
    if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(f"a Redis URL must begin with redis://, rediss:// or unix://, got {address(url)}")
    return redis.Redis.from_url(
        url,
        socket_timeout=socket_timeout,
        socket_connect_timeout=min(5.0, socket_timeout),
        socket_keepalive=True,
        decode_responses=False,
        protocol=2,  # what every hosted Redis speaks
        # No retries inside: a repeated LMOVE would move a second payload and show us only one of the two.
        retry=Retry(NoBackoff(), 0),
    )


def address(url: str) -> str:
    """The URL without user and password, for messages and logs."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{where}{parts.path}" if parts.scheme else "an address without a scheme"


def sentence(error: redis.exceptions.RedisError, where: str) -> str:
    """Say in one sentence what is wrong with the Redis at `where`."""
    said = str(error).split("\n", 1)[0][:200]
    code = said.split(" ", 1)[0]
    if isinstance(error, redis.exceptions.AuthenticationError) or code in {"NOAUTH", "WRONGPASS", "NOPERM"}:
        return f"Redis at {where} refuses our user name or password"
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"Redis at {where} does not allow our user what an ingress needs: {said}"
    if isinstance(error, redis.exceptions.BusyLoadingError) or code == "LOADING":
        return f"Redis at {where} is still loading its data"
    if isinstance(error, redis.exceptions.ReadOnlyError) or code == "READONLY":
        return f"Redis at {where} is a read-only replica"
    if "unknown command" in said.lower():
        return f"Redis at {where} is too old, 6.2 or later is needed: {said}"
    if isinstance(error, redis.exceptions.TimeoutError):
        return f"Redis at {where} does not answer in time"
    if isinstance(error, redis.exceptions.ConnectionError):
        return f"Redis at {where} cannot be reached ({type(error).__name__})"
    return f"Redis at {where} refuses a command: {said}"


__all__ = ["Lists", "ListsAway", "RedisLists", "address", "connect", "lengths", "sentence"]
