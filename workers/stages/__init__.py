"""What is done in each state: one file a stage, all of the same shape, `run(job, tools) -> list[Event]`."""

from collections.abc import Callable, Mapping
from typing import Final

from statemachine.events import Event
from statemachine.job import Job
from statemachine.states import State
from workers.stages import callback, enhancing, fetching_refs, generating, uploading
from workers.tools import Tools

Handler = Callable[[Job, Tools], list[Event]]

HANDLERS: Final[Mapping[State, Handler]] = {
    State.FETCHING_REFS: fetching_refs.run,
    State.ENHANCING: enhancing.run,
    State.GENERATING: generating.run,
    State.UPLOADING: uploading.run,
    State.CALLBACK: callback.run,
}
