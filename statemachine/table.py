"""The one transition table. It feeds the `transitions` machine, the replay dict and the diagram in the docs."""

from typing import Final

from statemachine import events as e
from statemachine.states import LIVE, STAGES, TERMINAL, State

Row = tuple[type[e.Event], State, State]

_BEFORE_CALLBACK: Final = tuple(state for state in LIVE if state is not State.CALLBACK)

TABLE: Final[list[Row]] = [
    (e.JobQueued, State.QUEUED, State.QUEUED),
    *((e.Claimed, State.QUEUED, stage) for stage in STAGES),
    *((e.Claimed, stage, stage) for stage in STAGES),
    *((e.StageStarted, stage, stage) for stage in STAGES),
    *((e.RefsFetched, State.FETCHING_REFS, then) for then in (State.ENHANCING, State.GENERATING)),
    (e.PromptEnhanced, State.ENHANCING, State.GENERATING),
    (e.EnhancementSkipped, State.ENHANCING, State.GENERATING),
    (e.ModelLoaded, State.ENHANCING, State.ENHANCING),
    (e.ModelLoaded, State.GENERATING, State.GENERATING),
    (e.ModelMoved, State.ENHANCING, State.ENHANCING),
    (e.ModelMoved, State.GENERATING, State.GENERATING),
    (e.Checkpointed, State.GENERATING, State.GENERATING),
    (e.CheckpointDiscarded, State.GENERATING, State.GENERATING),
    (e.AssetGenerated, State.GENERATING, State.GENERATING),
    (e.MediaGenerated, State.GENERATING, State.UPLOADING),
    (e.AssetUploaded, State.UPLOADING, State.UPLOADING),
    (e.AssetsLost, State.UPLOADING, State.GENERATING),
    (e.ReferencesLost, State.GENERATING, State.FETCHING_REFS),
    (e.MediaUploaded, State.UPLOADING, State.CALLBACK),
    (e.CallbackSent, State.GENERATING, State.GENERATING),  # "processing", told once before the device starts
    (e.CallbackSent, State.CALLBACK, State.CALLBACK),
    *((e.Degraded, state, state) for state in LIVE),
    *((e.RetryScheduled, stage, stage) for stage in STAGES),
    *((e.Interrupted, stage, stage) for stage in STAGES),
    *((e.CancelRequested, state, state) for state in LIVE),
    *((e.OutcomeDecided, state, State.CALLBACK) for state in _BEFORE_CALLBACK),
    (e.JobCompleted, State.CALLBACK, State.COMPLETED),
    (e.JobFailed, State.CALLBACK, State.FAILED),
    (e.JobCancelled, State.CALLBACK, State.CANCELLED),
    *((e.Requeued, ended, then) for ended in sorted(TERMINAL) for then in LIVE),
    *((erased, ended, ended) for erased in (e.ContentErased, e.FilesRemoved) for ended in sorted(TERMINAL)),
]

REPLAY: Final[dict[tuple[str, State], tuple[State, ...]]] = {}
"""(kind, from) → the states it may lead to. A dict: 0.1 us; a machine's trigger: some 20 us."""

for _event, _source, _target in TABLE:
    REPLAY[_event.kind, _source] = (*REPLAY.get((_event.kind, _source), ()), _target)


def diagram() -> str:
    """The table as a Mermaid state diagram. Events that stay in their state are left out.

    What an operator's `requeued` may do is the same from every terminal state, so these stand in one box.
    """
    arrows: dict[tuple[State, State], list[str]] = {}
    again: list[State] = []
    for event, source, target in TABLE:
        if source is target:
            continue
        if source in TERMINAL:
            again += [] if target in again else [target]
        else:
            arrows.setdefault((source, target), []).append(event.kind)
    lines = ["stateDiagram-v2", f"    [*] --> {State.QUEUED}: {e.JobQueued.kind}"]
    lines += [f"    {source} --> {target}: {', '.join(kinds)}" for (source, target), kinds in arrows.items()]
    lines += ["    state ended {", *(f"        {state}" for state in State if state.terminal), "    }"]
    lines += [f"    ended --> {target}: {e.Requeued.kind}" for target in again]
    return "\n".join([*lines, "    ended --> [*]"])
