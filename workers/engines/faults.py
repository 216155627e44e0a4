"""Exceptions of the engine turned into the sentences and classes that a job's history keeps. Imports no torch."""

import errno
import traceback

from workers.engines.messages import Failed
from workers.errors import StageEnds


class Cancelled(Exception):
    """The request was cancelled: raised between steps, so that the pipeline stays usable."""


class InvalidParameters(ValueError):
    """What was asked cannot be drawn by this model."""


def failed(request_id: str, error: Exception) -> Failed:
    """Translate. torch's OutOfMemoryError is known by its name, so that the null engine needs no torch."""
    kind = type(error).__name__
    match error:
        case Cancelled():
            error_class, message = "cancelled", "Cancelled"
        case StageEnds():
            error_class, message, kind = error.error_class, error.message, error.error_type
        case MemoryError():
            error_class, message = "device_memory", "Insufficient VRAM for generation"
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            error_class, message = "misconfiguration", f"The spool cannot be written: {error.strerror}"
        case ValueError():
            error_class, message = "permanent", f"Invalid parameters: {error}"
        case _ if kind == "OutOfMemoryError":
            error_class, message = "device_memory", "Insufficient VRAM for generation"
        case _:
            error_class, message = "permanent", f"Generation failed: {str(error) or kind}"
    return Failed(
        request_id=request_id,
        error_class=error_class,
        error_type=kind,
        message=message,
        traceback=None if isinstance(error, Cancelled) else "".join(traceback.format_exception(error)),
    )
