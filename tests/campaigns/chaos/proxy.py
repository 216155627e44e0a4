"""A TCP proxy that does to connections what networks and dying servers do."""

import asyncio
import re
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, cast

Address = tuple[str, int] | Path
"""Host and port, or a Unix socket."""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What the proxy does to those who call.

    refuse: nobody listens. stall: nothing goes through. lose: a request in which this is found arrives, and its answer
    does not; `instead` comes in its place, or the connection just ends. to: another server is asked.
    """

    refuse: bool = False
    stall: bool = False
    lose: re.Pattern[bytes] | None = None
    instead: bytes = b""
    to: Address | None = None


FAIR: Final = Weather()


class Proxy:
    """Listens on a port of loopback and forwards to `upstream`, in a thread of its own. Use it as a context manager."""

    def __init__(self, upstream: Address) -> None:
        self.weather = FAIR
        self.upstream = upstream
        self.lost = 0
        """How many answers did not arrive."""
        self.callers: set[_Caller] = set()
        self._loop = asyncio.new_event_loop()
        self.moving = asyncio.Event()
        self.moving.set()
        self._listening: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, weather: Weather) -> None:
        """From now on. Connections that are there stay, unless nobody is to listen."""
        self._do(self._set(weather))

    def cut(self) -> None:
        """End every connection."""
        self._do(self._cut())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _listen(self) -> None:
        while True:
            try:
                self._listening = await self._loop.create_server(lambda: _Caller(self), "127.0.0.1", self.port)
            except OSError:  # somebody's outgoing connection has our port for a moment
                await asyncio.sleep(0.05)
            else:
                self.port = self._listening.sockets[0].getsockname()[1]
                return

    async def _set(self, weather: Weather) -> None:
        before, self.weather = self.weather, weather
        if weather.refuse and self._listening is not None:
            self._listening.close()
            self._listening = None
            await self._cut()
        elif before.refuse and not weather.refuse:
            await self._listen()
        if weather.stall:
            self.moving.clear()
        else:
            self.moving.set()
        for caller in self.callers:
            caller.stand_still(weather.stall)

    async def _cut(self) -> None:
        for caller in list(self.callers):
            caller.cut()

    async def _close(self) -> None:
        if self._listening is not None:
            self._listening.close()
        await self._cut()
        await asyncio.sleep(0)  # the ends of the connections are heard in the next round


class _Caller(asyncio.Protocol):
    """One who called, and the connection that was made for him."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._server: asyncio.Transport | None = None
        self._early = bytearray()
        self._losing: Weather | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._proxy.callers.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        await self._proxy.moving.wait()
        upstream = self._proxy.weather.to or self._proxy.upstream
        loop = asyncio.get_running_loop()
        try:
            if isinstance(upstream, Path):
                server, _ = await loop.create_unix_connection(lambda: _Server(self), str(upstream))
            else:
                server, _ = await loop.create_connection(lambda: _Server(self), *upstream)
        except OSError:
            self._transport.abort()  # it is down
            return
        self._server = server
        if self._ended:
            server.abort()
            return
        server.write(bytes(self._early))

    def data_received(self, data: bytes) -> None:
        lose = self._proxy.weather.lose
        if lose is not None and lose.search(data):
            self._losing = self._proxy.weather
        if self._server is None:
            self._early += data
        else:
            self._server.write(data)

    def answered(self, data: bytes) -> None:
        """The server said something: pass it on, or not."""
        if self._losing is None:
            self._transport.write(data)
            return
        self._proxy.lost += 1
        if self._losing.instead:
            self._transport.write(self._losing.instead)
            self._transport.close()
        else:
            self._transport.abort()

    def stand_still(self, still: bool) -> None:
        """Let nothing through, or go on."""
        for end in (self._transport, self._server):
            if end is not None and not end.is_closing():
                (end.pause_reading if still else end.resume_reading)()

    def cut(self) -> None:
        """End both halves."""
        self._transport.abort()

    def server_left(self) -> None:
        """What it has said is passed on first."""
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._proxy.callers.discard(self)
        if self._server is not None:
            self._server.abort()


class _Server(asyncio.Protocol):
    """The other half."""

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller

    def data_received(self, data: bytes) -> None:
        self._caller.answered(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._caller.server_left()
