"""What affinity may cost a job: random mixes on several workers, every overtaking timed."""

import random
from collections import defaultdict
from dataclasses import dataclass, field

import pytest

from statemachine.store.affinity import LOOK_AHEAD, Affinity, Due

WINDOW = 60.0


@dataclass
class Device:
    """A worker that draws one job at a time, with room for so many models."""

    number: int
    room: int
    now: float = 0.0
    loaded: list[str] = field(default_factory=list)  # the one that was used last comes last
    swaps: int = 0

    def __post_init__(self) -> None:
        self.affinity = Affinity(WINDOW, lambda: self.now)

    def draw(self, job: Due, seconds: float, swap: float) -> None:
        model = job.model or ""
        if model in self.loaded:
            self.loaded.remove(model)
        else:
            self.swaps += 1
            self.now += swap
        self.loaded = [*self.loaded, model][-self.room :]
        self.now += seconds


@dataclass
class Overtaken:
    """One job that was begun before one that stood before it."""

    by: Due
    device: int
    seconds: float
    head: bool  # whom it passed over was first of all


@dataclass
class Mix:
    """Jobs that come at random times: some at the beginning, the others while those are drawn."""

    dice: random.Random
    models: list[str]
    priorities: list[int]
    arrivals: list[tuple[float, Due]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seconds = {model: self.dice.uniform(1.0, 1.5 * WINDOW) for model in self.models}
        for number in range(80):
            at = self.dice.choice([0.0, self.dice.uniform(0.0, 20 * sum(self.seconds.values()) / len(self.models))])
            job = Due(str(number), self.dice.choice(self.models), self.dice.choice(self.priorities))
            self.arrivals.append((at, job))

    def work_off(self, devices: list[Device]) -> dict[str, list[Overtaken]]:
        """Draw all; whoever is free first takes the next. Returns by whom each job was overtaken."""
        coming = sorted(self.arrivals)
        arrived = dict[str, float]()
        waiting = list[Due]()
        overtaken = defaultdict[str, list[Overtaken]](list)
        while coming or waiting:
            device = min(devices, key=lambda one: one.now)
            while coming and (coming[0][0] <= device.now or not waiting):
                at, job = coming.pop(0)
                arrived[job.id] = at
                waiting.append(job)
                device.now = max(device.now, at)
            waiting.sort(key=lambda job: (-job.priority, arrived[job.id]))
            due = waiting[:LOOK_AHEAD]
            (job,) = device.affinity.prefer(due, frozenset(device.loaded), count=1)
            device.affinity.took(due, [job])
            before = waiting[: waiting.index(job)]
            for place, other in enumerate(before):
                assert other.priority == job.priority, "a higher priority goes first"
                overtaken[other.id].append(Overtaken(job, device.number, self.seconds[job.model or ""], place == 0))
            waiting.remove(job)
            device.draw(job, self.seconds[job.model or ""], swap=WINDOW / 4)
        return overtaken


def longest(mix: Mix, losses: list[Overtaken]) -> float:
    return max(mix.seconds[one.by.model or ""] for one in losses)


@pytest.mark.parametrize("seed", range(60))
def test_a_job_loses_a_window_at_most_to_each_other_model(seed: int) -> None:
    """For each worker: what it drew of one model that stood behind the job, and was begun before it, is a window's
    worth and the job in hand; and while the job was first of all, that holds for all models together.
    """
    dice = random.Random(seed)
    mix = Mix(dice, ["a", "b", "c", "d"][: dice.randint(2, 4)], dice.choice([[0], [0, 0, 0, 1]]))
    devices = [Device(number, room=dice.randint(1, len(mix.models) - 1)) for number in range(dice.randint(1, 3))]
    overtaken = mix.work_off(devices)
    losses_seen = 0
    for losses in overtaken.values():
        by_model, as_head = defaultdict[tuple[int, str], list[Overtaken]](list), defaultdict[int, list[Overtaken]](list)
        for one in losses:
            by_model[one.device, one.by.model or ""].append(one)
            if one.head:
                as_head[one.device].append(one)
        for some in by_model.values():
            assert sum(one.seconds for one in some) <= WINDOW + longest(mix, some)
            losses_seen += 1
        if len(set(mix.priorities)) == 1:  # an urgent job may have a third model loaded, which has its own window
            for some in as_head.values():
                assert sum(one.seconds for one in some) <= WINDOW + longest(mix, some)
    assert losses_seen > 5, "nobody was overtaken: the seed proves nothing"


@pytest.mark.parametrize("models", [2, 3, 4])
def test_a_swap_is_worth_a_window_in_a_backlog(models: int) -> None:
    """Whatever the number of models, one is drawn for the window before the next is loaded: none cuts it short."""
    names = ["a", "b", "c", "d"][:models]
    mix = Mix(random.Random(models), names, [0])
    mix.seconds = dict.fromkeys(names, 4.0)
    mix.arrivals = [(0.0, Due(f"{number:03}", names[number % models], 0)) for number in range(100)]
    device = Device(0, room=1)
    mix.work_off([device])
    assert device.swaps <= 100 * 4.0 / WINDOW + models
