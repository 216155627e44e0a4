"""The fleet of the false year: hosts with two devices each, what these have loaded, and when they are free."""

import hashlib
import math
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from ourvidz.bench.errands import Booking, Place
from workers.presets import IP_ADAPTER, LUSTIFY, PRESETS, QWEN_7B, WAN_1_3B, WAN_VACE_1_3B

PEAK: Final = 3.2
"""So many times the mean load can be drawn at once: the busiest evenings queue."""
DEVICES_PER_HOST: Final = 2

LOADS: Final[Mapping[str, tuple[float, int]]] = {
    LUSTIFY: (14.0, 6_938_040_706),
    WAN_1_3B: (21.0, 14_200_000_000),
    WAN_VACE_1_3B: (24.0, 15_700_000_000),
    QWEN_7B: (17.0, 15_231_233_024),
    IP_ADAPTER: (2.5, 698_390_000),
}
"""Model → seconds and bytes of loading it."""


class _Device:
    def __init__(self, number: int) -> None:
        self.host = f"gpu-{number // DEVICES_PER_HOST + 1}"
        self.name = f"cuda:{number % DEVICES_PER_HOST}"
        self.free_at: datetime | None = None
        self.resident: frozenset[str] = frozenset()

    def free(self, at: datetime) -> bool:
        return self.free_at is None or self.free_at <= at


class Fleet:
    """Books one job after the other, in the order of their coming."""

    def __init__(self, key: str, *, mean_load: float) -> None:
        self._key = key
        self._devices = [_Device(number) for number in range(max(2, math.ceil(mean_load * PEAK)))]

    def book(self, job_type: str, at: datetime, seconds: float, dice: random.Random) -> Booking:
        """A free device that has the model, or a free one, or whichever is free first."""
        model = PRESETS[job_type].model
        free = [device for device in self._devices if device.free(at)]
        holding = [device for device in free if model in device.resident]
        device = (holding or free or [min(self._devices, key=lambda one: one.free_at or at)])[0]
        begins_at = max(at, device.free_at or at) + timedelta(milliseconds=dice.randint(4, 90))
        needed = (model, QWEN_7B) if PRESETS[job_type].enhance else (model,)
        loads = tuple(name for name in needed if name not in device.resident)
        if loads:  # nothing else has room beside a model and the enhancer
            device.resident = frozenset(needed)
        loading = sum(LOADS[name][0] for name in loads)
        device.free_at = begins_at + timedelta(seconds=seconds + loading)
        others = [one for one in self._devices if one is not device]
        return Booking(
            place=self._place(device, at),
            other=self._place(dice.choice(others), at),
            begins_at=begins_at,
            seconds=seconds,
            loads=loads,
        )

    def _place(self, device: _Device, at: datetime) -> Place:
        """A worker is a new one after each deploy, which is every month."""
        life = hashlib.sha256(f"{self._key}: {device.host} {device.name} {at:%Y-%m}".encode()).hexdigest()
        quarter = (at.month - 1) // 3
        return Place(f"{device.host}-{life[:4]}", device.host, device.name, f"0.{at.year % 100 * 4 + quarter}.0")
