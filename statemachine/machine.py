"""The write path's judge, on the `transitions` library. Replay does not come here: stored history is believed."""

import logging
from functools import partial
from threading import Lock
from typing import Any, Final

from transitions import Machine, MachineError

from statemachine.errors import IllegalEvent
from statemachine.states import State
from statemachine.table import TABLE


class _Cursor:
    """A throw-away model. No job is ever attached: that grafts 40 methods on it and costs 50-160 us."""

    def __init__(self, state: State, target: State) -> None:
        self.state: str = state.value
        self.target = target


def _leads_to(target: State, data: Any) -> bool:
    return bool(data.model.target is target)


_machine: Final = Machine(
    model=None,
    states=[state.value for state in State],
    initial=State.QUEUED.value,
    auto_transitions=False,
    send_event=True,
)
for _event, _source, _target in TABLE:
    _machine.add_transition(_event.kind, _source.value, _target.value, conditions=partial(_leads_to, _target))
_lock: Final = Lock()
logging.getLogger("transitions").setLevel(logging.WARNING)  # it tells of every state that it enters and leaves


def judge(job_id: str, kind: str, source: State, target: State) -> None:
    """Allow the event or raise `IllegalEvent`. About 20 us."""
    cursor = _Cursor(source, target)
    event = _machine.events.get(kind)
    with _lock:  # the machine is shared; its events keep state while they run
        try:
            allowed = event is not None and event.trigger(cursor)
        except MachineError:
            allowed = False
    if not allowed:
        raise IllegalEvent(job_id, kind, source, target)
