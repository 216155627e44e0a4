"""What lies on the device: models in parts, of which the least recently used make room for others.

Parts that are needed for a moment only (text encoders, the enhancer) are moved to the host's memory first; then whole
models are released, the least recently used first; then the other parts of the model at hand are moved aside.
Imports no torch: a part is anything that can be moved.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from workers.engines.messages import Message, Moved
from workers.errors import Misconfigured

Place = Literal["device", "host"]
Say = Callable[[Message], None]

_GIB: Final = 1024**3


@dataclass(eq=False)
class Part:
    """One network of a model. `move` brings it to the device or to the host; `parkable` ones go there first.

    Two models that hold the same network hold the same Part.
    """

    name: str
    bytes: int
    move: Callable[[Place], None]
    parkable: bool = False
    on_device: bool = False
    used: int = 0


@dataclass
class Held:
    """One loaded model: its parts, and `forget`, which drops the last references to them."""

    name: str
    parts: list[Part]
    forget: Callable[[], object]
    used: int = 0


@dataclass
class Pool:
    """All models of one device. Not thread-safe: the device has one thread.

    `budget` is bytes of weights, None without limit. `free` is called after something was released or moved away.
    """

    budget: int | None
    free: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    held: dict[str, Held] = field(default_factory=dict)
    _uses: int = 0

    @property
    def bytes(self) -> int:
        """What lies on the device."""
        return sum(part.bytes for part in self._parts() if part.on_device)

    def hold(self, model: str, parts: Sequence[Part], forget: Callable[[], object]) -> None:
        """Take a loaded model in. Its parts are where they say that they are."""
        self._uses += 1
        self.held[model] = Held(model, list(parts), forget, self._uses)

    def bring(self, model: str, names: Iterable[str], say: Say, request_id: str) -> None:
        """Have those parts of a held model on the device, and mark them as used.

        Raises Misconfigured when they alone are more than the budget, KeyError for names that the model has not.
        """
        held = self.held[model]
        by_name = {part.name: part for part in held.parts}
        wanted = [by_name[name] for name in names]
        self._uses += 1
        held.used = self._uses
        for part in wanted:
            part.used = self._uses
        away = [part for part in wanted if not part.on_device]
        if not away:
            return
        self._judge(model, wanted)
        self._make_room(sum(part.bytes for part in away), wanted, held, say, request_id)
        self._move(model, away, "device", say, request_id)

    def make_room(self, needed: int, say: Say, request_id: str) -> None:
        """Have `needed` bytes free on the device for something that is not held yet, as far as that can be had."""
        self._make_room(needed, [], None, say, request_id)

    def release_others(self, model: str, say: Say, request_id: str) -> bool:
        """Release every model but this one, as a last resort of its request. Says whether there was any."""
        others = [held for held in self.held.values() if held.name != model]
        for held in others:
            self._release(held, say, request_id)
        return bool(others)

    def spare(self, model: str, say: Say, request_id: str) -> bool:
        """Move to the host what the model's last `bring` did not name. Says whether there was any.

        Where there is no budget, the device's memory is the host's, and nothing is gained.
        """
        held = self.held.get(model)
        if held is None or self.budget is None:
            return False
        idle = [part for part in held.parts if part.on_device and part.used != held.used]
        if idle:
            self._move(model, idle, "host", say, request_id)
        return bool(idle)

    def _judge(self, model: str, wanted: Sequence[Part]) -> None:
        total = sum(part.bytes for part in wanted)
        if self.budget is not None and total > self.budget:
            parts = ", ".join(part.name for part in wanted)
            raise Misconfigured(
                f"{model} needs {total / _GIB:.3g} GiB on the device at once ({parts}), and weights may take "
                f"{self.budget / _GIB:.3g} GiB of it (device_memory_gb)",
                error_type="ModelTooLarge",
            )

    def _make_room(self, needed: int, keep: Sequence[Part], own: Held | None, say: Say, request_id: str) -> None:
        """Stop as soon as there is room; the order of the three loops is the order in which things go."""
        if self.budget is None:
            return
        self._park(self.budget - needed, keep, say, request_id)
        for held in sorted(self.held.values(), key=lambda held: held.used):
            if self.bytes + needed <= self.budget:
                return
            if held is not own and any(part.on_device for part in held.parts):
                self._release(held, say, request_id)
        for part in own.parts if own is not None else []:
            if self.bytes + needed <= self.budget:
                return
            if part.on_device and part not in keep:
                self._move(own.name if own is not None else "", [part], "host", say, request_id)

    def _park(self, most: int, keep: Sequence[Part], say: Say, request_id: str) -> None:
        """A method of its own: nothing here may name a part any more when its model is released."""
        for part in sorted(self._parts(), key=lambda part: part.used):
            if self.bytes <= most:
                return
            if part.parkable and part.on_device and part not in keep:
                self._move(self._owner(part), [part], "host", say, request_id)

    def _move(self, model: str, parts: Sequence[Part], to: Place, say: Say, request_id: str) -> None:
        started = self.clock()
        moved: list[Part] = []
        try:
            for part in parts:
                try:
                    part.move(to)
                except Exception:
                    part.move("host")  # half of it may be on the device already, and nobody would count it
                    raise
                part.on_device = to == "device"
                moved.append(part)
        finally:
            if to == "host":
                self.free()
            if moved:
                size = sum(part.bytes for part in moved)
                self._tell(model, [part.name for part in moved], size, to, started, say, request_id)

    def _release(self, held: Held, say: Say, request_id: str) -> None:
        """What another model holds as well stays."""
        started = self.clock()
        del self.held[held.name]
        shared = set(self._parts())
        gone = {part.name: part.bytes for part in held.parts if part not in shared}  # a Part would hold its network
        held.forget()
        held.parts.clear()
        self.free()
        self._tell(held.name, list(gone), sum(gone.values()), "released", started, say, request_id)

    def _tell(
        self,
        model: str,
        parts: list[str],
        size: int,
        to: Literal["device", "host", "released"],
        started: float,
        say: Say,
        request_id: str,
    ) -> None:
        say(
            Moved(
                request_id=request_id,
                model=model,
                parts=parts,
                to=to,
                seconds=self.clock() - started,
                bytes=size,
            )
        )

    def _parts(self) -> list[Part]:
        """Each once, though several models may hold it."""
        return list(dict.fromkeys(part for held in self.held.values() for part in held.parts))

    def _owner(self, part: Part) -> str:
        return next(held.name for held in self.held.values() if part in held.parts)
