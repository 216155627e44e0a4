"""The references of a request, read from its spool folder. Imports no torch."""

import io
from pathlib import Path

from PIL import Image

from workers.engines.faults import InvalidParameters
from workers.engines.messages import Generate, ReferenceFile
from workers.errors import TryAgain
from workers.spool import sha256

LOST = "ReferenceLost"
"""The error type of a reference that is not in the spool as it was told: it has to be fetched again."""


def read(request: Generate) -> dict[str, Image.Image]:
    """Role → upright RGB picture in the size in which it was stored; empty without references.

    A file is believed only if its sha256 is the one that was told. Raises TryAgain of the type `LOST` when it is
    missing or another, InvalidParameters for a role given twice, a name that is a path, or a file that is no PNG.
    """
    roles = [reference.role for reference in request.references]
    if len(set(roles)) != len(roles):
        raise InvalidParameters(f"each role may have one reference, got {', '.join(roles)}")
    return {reference.role: _read(Path(request.spool), reference) for reference in request.references}


def _read(folder: Path, reference: ReferenceFile) -> Image.Image:
    role, name = reference.role, reference.name
    if Path(name).name != name:
        raise InvalidParameters(f"the {role} reference must be a file of the spool folder, got {name!r}")
    try:
        data = (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise TryAgain(f"the {role} reference {name} is not in the spool", error_type=LOST) from error
    if (found := sha256(data)) != reference.digest:
        raise TryAgain(
            f"the {role} reference {name} was changed: expected digest {reference.digest[:12]}…, found {found[:12]}…",
            error_type=LOST,
        )
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError) as error:  # what Pillow raises over a PNG that is none, or is cut off
        raise InvalidParameters(f"the {role} reference {name} is no PNG: {error}") from error
