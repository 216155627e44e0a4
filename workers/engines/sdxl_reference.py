"""What a request says of its reference, in the numbers of the two ways in which SDXL can hold to one. Imports no torch.

img2img begins with the reference under noise and takes fewer steps the closer the picture shall stay. An IP-Adapter
lets the reference speak beside the prompt, in those of the UNet's blocks that answer for style, for layout, or in all.
"""

import math
from typing import Final

from PIL import Image

from workers.engines import reference_files
from workers.engines.faults import InvalidParameters
from workers.engines.messages import Generate
from workers.references.decoding import fit

ROLE: Final = "single"
WEAKEST: Final = 0.1
Scale = float | dict[str, dict[str, list[float]]]


def judge_reference(request: Generate) -> bool:
    """Whether the request has a reference. Raises InvalidParameters for what SDXL does not do with one."""
    if not request.references:
        return False
    roles = [reference.role for reference in request.references]
    if roles != [ROLE]:
        raise InvalidParameters(f"SDXL takes one reference with the role {ROLE}, got {', '.join(roles)}")
    if not WEAKEST <= request.reference_strength <= 1:
        raise InvalidParameters(f"reference_strength must be in {WEAKEST}..1, got {request.reference_strength}")
    adapter_scale(request.reference_type, request.reference_strength)
    return True


def adapter_scale(kind: str, strength: float) -> Scale:
    """What `set_ip_adapter_scale` takes for a type of reference; the scale is the strength itself.

    The blocks are those that InstantStyle found: one attention of the first upward block answers for style, one of
    the last downward block for layout. They have these places in the real SDXL and in the tiny one. Raises
    InvalidParameters for another type.
    """
    match kind:
        case "style":
            return {"up": {"block_0": [0.0, strength, 0.0]}}
        case "composition":
            return {"down": {"block_2": [0.0, strength]}}
        case "character":
            return strength
    raise InvalidParameters(f"reference_type must be style, composition or character, got {kind!r}")


def denoising_strength(strength: float, steps: int) -> float:
    """img2img's own `strength`: of `steps` the share 1 - strength is taken, rounded up, and never less than one.

    diffusers cuts `steps` times its strength off, so half a step is added to be safe from 7.499999. With fewer than
    ten steps neighbouring strengths may mean the same.
    """
    taken = max(1, math.ceil(round(steps * (1 - strength), 6)))
    return min(1.0, (taken + 0.5) / steps)


def framed(request: Generate, width: int, height: int) -> Image.Image:
    """The reference in the size that is drawn, by the request's fit. Raises what `reference_files.read` does."""
    return fit(reference_files.read(request)[ROLE], width, height, request.reference_fit)


def squared(request: Generate) -> Image.Image:
    """The reference as a square, which is what an image encoder sees, by the request's fit.

    Nothing is resampled here; alone, the encoder's own preparation would cut off both ends of an oblong picture.
    Raises what `reference_files.read` does.
    """
    picture = reference_files.read(request)[ROLE]
    side = max(picture.size) if request.reference_fit == "letterbox" else min(picture.size)
    return fit(picture, side, side, request.reference_fit)
