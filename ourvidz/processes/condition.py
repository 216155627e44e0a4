"""How a process is: what it says of itself to `up`, to systemd and to whoever asks over HTTP."""

import socket
from typing import Final

import msgspec
import structlog

log = structlog.get_logger()

_LONGEST: Final = 16_384
_SENTENCE: Final = 300


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """`still` are the reasons why it should be started anew, `unready` those why it takes no work at the moment.

    `status` is one line for people; `worker` is the name under which leases are held, where there is one. Nothing here
    is secret or anybody's personal content.
    """

    still: list[str] = []
    unready: list[str] = []
    status: str = ""
    worker: str | None = None

    @property
    def live(self) -> bool:
        """All of its loops move."""
        return not self.still

    @property
    def ready(self) -> bool:
        """It takes work."""
        return self.live and not self.unready


class ToParent:
    """The way by which a child of `up` tells how it is: one end of a pair of datagram sockets, inherited."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._socket.set_inheritable(False)  # an engine process has nothing to say here

    def tell(self, condition: Condition) -> None:
        """Never waits and never raises: an `up` that does not listen has troubles of its own."""
        short = msgspec.structs.replace(
            condition, still=_short(condition.still), unready=_short(condition.unready), status=condition.status[:100]
        )
        try:
            self._socket.send(msgspec.json.encode(short))
        except OSError as error:
            log.debug("nobody hears how this process is", reason=str(error))

    def close(self) -> None:
        """Nothing more is told."""
        self._socket.close()


class FromChild:
    """The other end. `descriptor` is what the child inherits; it is closed here by `begun`."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ours.setblocking(False)

    @property
    def descriptor(self) -> int:
        """Of the child's end."""
        return self._theirs.fileno()

    def begun(self) -> None:
        """The child has its end."""
        self._theirs.close()

    def heard(self) -> Condition | None:
        """The last that was told since one asked before, or None."""
        last = None
        while True:
            try:
                data = self._ours.recv(_LONGEST)
            except OSError:  # nothing more is there, or the child is gone
                return last
            if not data:
                return last
            last = msgspec.json.decode(data, type=Condition)

    def close(self) -> None:
        """Hear nothing more."""
        self._ours.close()
        self._theirs.close()


def _short(sentences: list[str]) -> list[str]:
    return [sentence[:_SENTENCE] for sentence in sentences[:20]]
