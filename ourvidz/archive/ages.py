"""How long what is kept: the words of the setting `retention`."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from statemachine.states import TERMINAL, State

ENDS: Final = tuple(state for state in State if state in TERMINAL)
WORKERS: Final = "workers"
LETTERS: Final = "dead_letters"
KNOWN: Final = (*(state.value for state in ENDS), WORKERS, LETTERS)


class Ages(msgspec.Struct, frozen=True, kw_only=True):
    """What is older goes. What is not named stays for good."""

    ends: Mapping[State, timedelta] = {}
    workers: timedelta | None = None
    dead_letters: timedelta | None = None

    def ends_before(self, now: datetime) -> dict[State, datetime]:
        """State → jobs that ended so may go, if it was before that."""
        return {state: now - age for state, age in self.ends.items()}


def parse(text: str) -> Ages:
    """`completed=365d, failed=730d` and the like as ages. Raises ValueError."""
    found: dict[str, timedelta] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        named = re.fullmatch(r"(\w+)\s*=\s*([0-9]{1,5})\s*d", part)
        if named is None or named[1] not in KNOWN or named[1] in found:
            raise ValueError(f"not an age in days of one of {', '.join(KNOWN)}, each once: {part}")
        found[named[1]] = timedelta(days=int(named[2]))
    ends = {state: found[state.value] for state in ENDS if state.value in found}
    return Ages(ends=ends, workers=found.get(WORKERS), dead_letters=found.get(LETTERS))
