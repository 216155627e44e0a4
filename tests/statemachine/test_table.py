"""One table feeds the judge, the replay and the diagram; they must not differ by a single arrow."""

from itertools import product

import pytest

from statemachine.errors import IllegalEvent
from statemachine.events import KINDS
from statemachine.machine import judge
from statemachine.states import LIVE, STAGES, TERMINAL, State
from statemachine.table import REPLAY, TABLE, diagram


def test_machine_and_replay_agree_on_every_event_in_every_state() -> None:
    for kind, source, target in product(KINDS, State, State):
        allowed = target in REPLAY.get((kind, source), ())
        if allowed:
            judge("j", kind, source, target)
        else:
            with pytest.raises(IllegalEvent):
                judge("j", kind, source, target)


def test_every_kind_is_in_the_table() -> None:
    assert {event.kind for event, _, _ in TABLE} == set(KINDS)


def test_a_terminal_state_changes_only_by_requeued() -> None:
    """What is written of a finished job besides, such as that its content was erased, leaves it as it ended."""
    changes = {
        (kind, source) for (kind, source), targets in REPLAY.items() if source in TERMINAL and (source,) != targets
    }
    assert changes == {("requeued", source) for source in TERMINAL}


def test_every_live_state_leads_to_an_end() -> None:
    reached = set(TERMINAL)
    while grown := {s for (_, s), targets in REPLAY.items() if s not in reached and reached.intersection(targets)}:
        reached |= grown
    assert reached == set(State)


def test_a_stage_may_be_retried_and_interrupted_wherever_work_is_done() -> None:
    for stage in STAGES:
        assert REPLAY["retry_scheduled", stage] == (stage,)
        assert REPLAY["interrupted", stage] == (stage,)
    assert ("interrupted", State.QUEUED) not in REPLAY
    assert len(LIVE) == len(STAGES) + 1


def test_the_diagram_shows_every_arrow_between_states() -> None:
    drawn = [line.strip() for line in diagram().splitlines()]
    for event, source, target in TABLE:
        if source is not target:
            begin = "ended" if source in TERMINAL else source
            arrow = next(line for line in drawn if line.startswith(f"{begin} --> {target}:"))
            assert event.kind in arrow
    assert all(state.value in drawn for state in TERMINAL)
