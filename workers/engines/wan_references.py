"""What a WAN job is to hold to: which pictures, where in the video, in the size that is drawn. Imports no torch."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from PIL import Image

from workers.engines import reference_files
from workers.engines.faults import InvalidParameters
from workers.engines.messages import Generate
from workers.references.decoding import fit

Mode = Literal["none", "single", "start", "end", "both"]
Way = Literal["vace", "latent_clamp"]

NO_VACE: Final = "a single reference is held to as the first frame: there is no VACE model"
ONE_FRAME: Final = "one frame has both ends: the start reference is used"

_MODES: Final[dict[frozenset[str], Mode]] = {
    frozenset(): "none",
    frozenset({"single"}): "single",
    frozenset({"start"}): "start",
    frozenset({"end"}): "end",
    frozenset({"start", "end"}): "both",
}


@dataclass(frozen=True, slots=True)
class Given:
    """The pictures of one job, each in exactly the size that is drawn.

    `start` is the first frame and `end` the last one; of one frame only `start` is left. `single` is of no frame.
    """

    single: Image.Image | None = None
    start: Image.Image | None = None
    end: Image.Image | None = None


def mode_of(roles: Collection[str]) -> Mode:
    """The mode that these roles make. Raises InvalidParameters for others."""
    if len(set(roles)) != len(roles) or frozenset(roles) not in _MODES:
        raise InvalidParameters(f"references must be single, start, end, or start and end, got {', '.join(roles)}")
    return _MODES[frozenset(roles)]


def read(request: Generate, size: tuple[int, int], *, frames: int, way: Way) -> tuple[Given, str | None]:
    """The request's pictures, and in a sentence what is less than was asked, or None.

    `size` is width and height in pixels. The clamp knows frames only, so there a single picture becomes the first
    one. Raises what `reference_files.read` does.
    """
    pictures = {
        role: fit(picture, *size, request.reference_fit) for role, picture in reference_files.read(request).items()
    }
    less = None
    if "single" in pictures and way == "latent_clamp":
        pictures, less = {"start": pictures["single"]}, NO_VACE
    if frames == 1 and "end" in pictures:
        less = ONE_FRAME if "start" in pictures else None
        pictures = {"start": pictures.get("start", pictures["end"])}
    return Given(**pictures), less
