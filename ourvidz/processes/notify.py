"""What systemd is told by a service of `Type=notify`: datagrams to what NOTIFY_SOCKET names, see sd_notify(3)."""

import socket
from collections.abc import Mapping
from typing import Final, Self

import structlog

log = structlog.get_logger()

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""They are meant for one process, and not for its children."""


class Notify:
    """Speaks to the service manager, if there is one. `watchdog` are the seconds within which it wants to hear us."""

    def __init__(self, address: str | None = None, *, watchdog: float | None = None) -> None:
        self.watchdog = watchdog
        self._address = address
        self._socket = None if address is None else socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    @classmethod
    def of(cls, environ: Mapping[str, str], pid: int) -> Self:
        """As the environment says. An address that is neither a path nor abstract (`@…`) is passed over, and logged."""
        address = environ.get("NOTIFY_SOCKET")
        if address and address[0] not in "/@":
            log.warning("NOTIFY_SOCKET is no path and no abstract name: the service manager is not told", got=address)
            address = None
        if not address:
            return cls()
        return cls(address, watchdog=_watchdog(environ, pid))

    def say(self, *lines: str) -> None:
        """Send the lines, such as READY=1, in one datagram. Never raises; what does not arrive is logged."""
        if self._socket is None or self._address is None:
            return
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            self._socket.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), name)
        except OSError as error:
            log.warning("the service manager is not told", address=self._address, reason=str(error))

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds; None where nobody watches, or where it is another process that is watched."""
    given, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if not given.isdecimal() or int(given) == 0 or (whose and whose != str(pid)):
        return None
    return int(given) / 1_000_000
