"""Where the identity campaign aims. The campaign itself is `make identity`: half an hour of real engines."""

import pytest

from tests.campaigns.hunting import Aim
from tests.campaigns.identity import WHENS, aims


@pytest.mark.parametrize("of", [12, 15, 25, 50])
def test_no_step_is_both_early_and_late(of: int) -> None:
    """And whoever looks closer finds the job before it is past the place."""
    all_aims = [Aim(when, "engine") for when in WHENS]
    steps = [step for aim in all_aims for step in aim.window(of)]
    assert steps == sorted(set(steps))
    assert (min(steps), max(steps)) == (1, of)
    assert all(aim.raised_at(of) < max(aim.window(of)) for aim in all_aims)


def test_each_case_loses_one_whole_worker_and_the_next_one_at_another_step() -> None:
    three = [aims(number) for number in range(len(WHENS))]
    assert all([aim.victim for aim in row].count("worker") == 1 for row in three)
    assert {aim.when for row in three for aim in row if aim.victim == "worker"} == set(WHENS)
