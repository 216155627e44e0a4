"""What archiving tells of itself while it goes on."""

from collections.abc import Callable
from typing import Literal

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One more step is done: so many jobs `of` all in that archive are written, or are removed from the database."""

    archive: str
    what: Literal["writing", "written", "complete", "removing", "done"]
    jobs: int
    of: int | None = None


Tell = Callable[[Step], None]
