"""How long a generation of each job type takes, from the tables of the worker API's specification.

Plain data: the job types are names to the state machine. Measured on the hardware that the specification names.
"""

from collections.abc import Mapping
from typing import Final

import msgspec


class Expectation(msgspec.Struct, frozen=True):
    """Seconds for one job of this type that makes so many assets. No `most` where the specification says "and more"."""

    job_type: str
    assets: int
    least: float
    most: float | None


EXPECTATIONS: Final = (
    Expectation("sdxl_image_fast", 1, 3.0, 8.0),
    Expectation("sdxl_image_fast", 3, 9.0, 24.0),
    Expectation("sdxl_image_fast", 6, 18.0, 48.0),
    Expectation("sdxl_image_high", 1, 3.0, 8.0),
    Expectation("sdxl_image_high", 3, 9.0, 24.0),
    Expectation("sdxl_image_high", 6, 18.0, 48.0),
    Expectation("image_fast", 1, 25.0, 40.0),
    Expectation("image_high", 1, 40.0, 100.0),
    Expectation("video_fast", 1, 135.0, 180.0),
    Expectation("video_high", 1, 180.0, 240.0),
    Expectation("image7b_fast_enhanced", 1, 85.0, 100.0),
    Expectation("image7b_high_enhanced", 1, 100.0, 240.0),
    Expectation("video7b_fast_enhanced", 1, 195.0, 240.0),
    Expectation("video7b_high_enhanced", 1, 240.0, None),
)
"""One row for each job type and each number of assets that it may be asked for."""

_BY_JOB: Final[Mapping[tuple[str, int], Expectation]] = {(one.job_type, one.assets): one for one in EXPECTATIONS}


def expected(job_type: str | None, assets: int) -> Expectation | None:
    """What is expected of such a job; None where the specification says nothing of it."""
    return None if job_type is None else _BY_JOB.get((job_type, assets))
