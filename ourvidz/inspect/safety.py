"""Whether the work so far is safe: what of it would outlive the worker that has it in hand."""

import msgspec

from ourvidz.inspect.situation import ALIVE_SECONDS, Situation
from ourvidz.wording import clause, plural, since
from statemachine.states import State


class Safety(msgspec.Struct, frozen=True, kw_only=True):
    """`safe` is None where there is nothing to lose. `said` is a clause that tells what is kept, and where."""

    safe: bool | None
    said: str


def safety(s: Situation) -> Safety:
    """What is kept, and where. The history says what was; the workers, whether its place is still there."""
    if s.job.erased is not None:
        return Safety(safe=None, said="what it made was erased")
    kept = _kept(s)
    if kept is None:
        return _nothing(s)
    said, spooled = kept
    if not spooled:
        return Safety(safe=True, said=said)
    where, heard = s.files_at, s.files_heard_at
    if s.past or where is None:
        return Safety(safe=True, said=f"{said} in the spool")
    if heard is not None and (s.now - heard).total_seconds() <= ALIVE_SECONDS:
        return Safety(safe=True, said=f"{said} in the spool of {clause(where)}")
    silent = "of which nobody was heard" if heard is None else f"silent for {since(heard, s.now)}"
    return Safety(safe=False, said=f"{said} in the spool of {clause(where)}, {silent}: what is lost is made again")


def _kept(s: Situation) -> tuple[str, bool] | None:
    """What is kept, and whether it lies in a spool; None where nothing is."""
    job = s.job
    made, stored = len(job.current_assets), sum(asset.key is not None for asset in job.current_assets)
    video = any(asset.content_type.startswith("video/") for asset in job.current_assets)
    files = plural(made, "video" if video else "picture")
    if made and stored == made:
        return f"its {files} {_is(made)} stored", False
    if stored:
        return f"{stored} of its {files} {_is(stored)} stored, the rest", True
    if made:
        wanted = job.request.get("num_images", made)
        part = f"its {files}" if job.state is State.UPLOADING else f"{made} of its {wanted} files"
        return f"{part} {_is(made)} safe", True
    if job.checkpoint is not None:
        return f"what it has up to step {job.checkpoint.step} is safe", True
    if job.references and job.state in (State.ENHANCING, State.GENERATING):
        return (
            f"its {plural(len(job.references), 'reference')} {'is' if len(job.references) == 1 else 'are'} safe",
            True,
        )
    return None


def _nothing(s: Situation) -> Safety:
    job = s.job
    if job.state is State.GENERATING and job.open_attempt is not None:
        return Safety(safe=False, said="nothing that it has drawn is kept yet")
    return Safety(safe=None, said="nothing is made of it yet" if job.outcome is None else "it made nothing")


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
