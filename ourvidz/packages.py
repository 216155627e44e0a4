"""Whether `statemachine` and `workers` are the ones that came with this `ourvidz`: others have these names too."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

NAMES: Final = ("statemachine", "workers")
_HOME: Final = Path(__file__).resolve().parent.parent


def foreign_packages() -> str | None:
    """One sentence on what is mixed up, or None. Imports nothing: a foreign package may do anything."""
    for name in NAMES:
        spec = find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin is None:
            return f"the package {name} of ourvidz is missing: install ourvidz again"
        if origin.parent.parent != _HOME:
            return (
                f"the package {name} at {origin.parent} is another project's, and hides the one of ourvidz in {_HOME}: "
                "install ourvidz into an environment of its own"
            )
    return None
