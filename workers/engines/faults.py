"""Exceptions of the engine turned into the sentences and classes that a job's history keeps. Imports no torch."""

import errno
import re
import traceback
from typing import Final, Literal

from workers.engines.messages import PAUSED, Failed
from workers.errors import StageEnds, TryAgain

_LOST: Final = (
    "CUDA error", "cuBLAS error", "CUBLAS_STATUS_", "cuDNN error", "CUDNN_STATUS_", "CUDA driver error",
)  # fmt: skip
_NO_MEMORY: Final = (
    "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
)  # fmt: skip
_NO_MEMORY_FOR_ONEDNN: Final = re.compile(r"could not (create|execute) a primitive(?! descriptor)")
"""On the CPU. What oneDNN cannot do at all it refuses by another sentence, of a primitive descriptor."""


Asked = bool | Literal["keep"]
"""Whether a request is to be stopped; "keep" is after a checkpoint."""


class Cancelled(Exception):
    """The request was cancelled: raised between steps, so that the pipeline stays usable."""


class Paused(Cancelled):
    """The request was stopped to go on elsewhere."""


class InvalidParameters(ValueError):
    """What was asked cannot be drawn by this model."""


def device_is_lost(error: Exception) -> bool:
    """Whether the process cannot work its device any more and has to end: its successor begins with a new context.

    By reading: an error inside of a kernel spoils the CUDA context, and every later call in the process fails as this
    one did. torch raises RuntimeError, or its subclass AcceleratorError since 2.8; cuBLAS and cuDNN say their status.
    What is only out of memory leaves the context whole.
    """
    if not isinstance(error, RuntimeError) or out_of_memory(error):
        return False
    return type(error).__name__ == "AcceleratorError" or any(words in str(error) for words in _LOST)


def out_of_memory(error: Exception) -> bool:
    """Whether the device, or the host that stands in for one, had no memory left.

    torch's OutOfMemoryError is known by its name, so that the null engine needs no torch; on the CPU its allocator
    raises a plain RuntimeError.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error)
    short = any(words in said for words in _NO_MEMORY) or _NO_MEMORY_FOR_ONEDNN.search(said) is not None
    return isinstance(error, RuntimeError) and short


def failed(request_id: str, error: Exception) -> Failed:
    """Translate an error after which the process goes on."""
    kind = type(error).__name__
    match error:
        case Paused():
            error_class, message, kind = "cancelled", "Stopped, to go on elsewhere", PAUSED
        case Cancelled():
            error_class, message = "cancelled", "Cancelled"
        case StageEnds():
            error_class, message, kind = error.error_class, error.message, error.error_type
        case _ if out_of_memory(error):
            error_class, message = "device_memory", "Insufficient VRAM for generation"
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            error_class, message = "misconfiguration", f"The spool cannot be written: {error.strerror}"
        case ValueError():
            error_class, message = "permanent", f"Invalid parameters: {error}"
        case _:
            error_class, message = "permanent", f"Generation failed: {str(error) or kind}"
    return Failed(
        request_id=request_id,
        error_class=error_class,
        error_type=kind,
        message=message,
        traceback=None if isinstance(error, Cancelled) else "".join(traceback.format_exception(error)),
        budget=error.budget if isinstance(error, TryAgain) else None,
    )
