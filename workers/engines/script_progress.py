"""What a script's standard error says of its way through a job, made into messages. Imports no torch."""

from collections.abc import Callable
from typing import Final

from workers.engines.config import LOADING
from workers.engines.last_words import bar
from workers.engines.messages import Alive, Generate, Loaded, Message, Progress
from workers.models import ModelSpec

BEAT_SECONDS: Final = 30.0
"""How often a silent program is said to be alive; its own time limit tells when it is not."""


class ScriptProgress:
    """Loading until the first progress bar of as many steps as were asked for, then each step, then decoding.

    `doing` is what it does now, for people. Bars of other lengths are those of other work, such as of reading shards.
    """

    def __init__(self, request: Generate, spec: ModelSpec, say: Callable[[Message], None]) -> None:
        """Say that it loads."""
        self.doing = f"{LOADING} {spec.name}"
        self._request = request
        self._spec = spec
        self._say = say
        self._step = -1
        self._told = 0.0
        self._stepped = 0.0
        self._live(0.0)

    def hear(self, line: str, now: float) -> None:
        """Take one line of it, "" for none. `now` is seconds since its start."""
        found = bar(line)
        if found is not None and found[1] == self._request.steps and found[0] > self._step:
            self._advance(found[0], now)
        elif now - self._told >= BEAT_SECONDS:
            self._live(now)

    def _advance(self, step: int, now: float) -> None:
        request_id, of, spec = self._request.request_id, self._request.steps, self._spec
        if self._step < 0:
            digest = spec.digest or ""
            self._say(Loaded(request_id=request_id, model=spec.name, seconds=now, bytes=spec.bytes, digest=digest))
            self._stepped = now
        if step > 0:
            self._say(Progress(request_id=request_id, step=step, of=of, seconds=now - self._stepped))
        self._step, self._stepped, self._told = step, now, now
        self.doing = f"step {step + 1} of {of}"
        if step == of:
            self.doing = "decoding"
            self._live(now)

    def _live(self, now: float) -> None:
        self._told = now
        self._say(Alive(request_id=self._request.request_id, doing=self.doing))
