"""References by VACE: a model that is shown the frames which are given, and makes the others."""

from typing import Any, Final

from PIL import Image

from workers.engines.wan_references import Given

GREY: Final = (128, 128, 128)
"""Of the frames that are to be made."""
MAKE, KEEP = 255, 0  # of the mask


def conditioned(given: Given, size: tuple[int, int], *, frames: int, strength: float) -> dict[str, Any]:
    """The arguments of diffusers' WanVACEPipeline that hold it to the pictures. `size` is width and height in pixels.

    A given frame stands in its place of a video that is grey elsewhere; the mask is black there and white elsewhere.
    A single picture is shown beside the video, as what to draw rather than as a frame of it. The strength is the
    model's conditioning scale as it is: it was trained at 1.0, and the nearer the scale is to 0, the less of what it
    is shown reaches the video.
    """
    grey, make, keep = Image.new("RGB", size, GREY), Image.new("L", size, MAKE), Image.new("L", size, KEEP)
    video, mask = [grey] * frames, [make] * frames
    for place, picture in ((0, given.start), (-1, given.end)):
        if picture is not None:
            video[place], mask[place] = picture, keep
    return {
        "video": video,
        "mask": mask,
        "reference_images": None if given.single is None else [given.single],
        "conditioning_scale": strength,
    }
