"""One answer over a connected socket, held to its time and its bytes while it is read, not afterwards."""

import io
import socket
import zlib
from http.client import HTTPResponse
from typing import Any, Final

from workers.timed_http import Limit

HEAD_BYTES: Final = 64 * 1024
"""Status line and headers together."""
PIECE: Final = 64 * 1024


class TooMuch(Exception):
    """More bytes came than were asked for."""


class BrokenOff(Exception):
    """The answer ended before its end."""


class Undecodable(Exception):
    """The content is encoded in a way that was not asked for, or wrongly."""


class _Meter(io.RawIOBase):
    """A socket's bytes: each read has what is left of the time, and all of them have an allowance."""

    def __init__(self, connected: socket.socket, limit: Limit) -> None:
        self._connected = connected
        self._limit = limit
        self.allowance = HEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.allowance <= 0:
            raise TooMuch
        self._connected.settimeout(self._limit.left())
        got = self._connected.recv_into(memoryview(buffer)[: self.allowance])
        self.allowance -= got
        return got


class Answer(HTTPResponse):
    """http.client's answer, read through a meter. It owns no connection: who made the socket closes it."""

    def __init__(self, connected: socket.socket, limit: Limit) -> None:
        super().__init__(connected, method="GET")
        self._meter = _Meter(connected, limit)
        self.fp.close()
        self.fp = io.BufferedReader(self._meter)

    def body(self, most: int) -> bytes:
        """The content, decoded, at most `most` bytes on the wire and at most `most` decoded.

        Raises TooMuch, BrokenOff, Undecodable, or what the socket and http.client raise.
        """
        encoding = (self.headers.get("Content-Encoding") or "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
            raise Undecodable
        if self.length is not None and self.length > most:
            raise TooMuch
        self._meter.allowance = most + most // 4 + HEAD_BYTES  # a quarter more for the framing of chunks
        raw = bytearray()
        while piece := self.read(PIECE):
            raw += piece
            if len(raw) > most:
                raise TooMuch
        if self.length:
            raise BrokenOff
        return bytes(raw) if encoding == "identity" else _unpacked(bytes(raw), encoding, most)


def _unpacked(raw: bytes, encoding: str, most: int) -> bytes:
    """No more than `most` + 1 bytes are ever unpacked, however many there would be."""
    unpacking = zlib.decompressobj(_window(raw, encoding))
    try:
        data = unpacking.decompress(raw, most + 1)
    except zlib.error:
        raise Undecodable from None
    if len(data) > most:
        raise TooMuch
    if not unpacking.eof:
        raise BrokenOff
    if unpacking.unused_data:
        raise Undecodable
    return data


def _window(raw: bytes, encoding: str) -> int:
    if encoding != "deflate":
        return 16 + zlib.MAX_WBITS
    zlibs = len(raw) > 1 and raw[0] & 15 == 8 and (raw[0] << 8 | raw[1]) % 31 == 0
    return zlib.MAX_WBITS if zlibs else -zlib.MAX_WBITS  # half the world sends it without zlib's header
