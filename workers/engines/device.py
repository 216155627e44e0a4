"""The device that torch runs on: its settings, what it is, and what memory it took."""

import gc
import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from workers.errors import Misconfigured

_GIB: Final = 1024**3
_LIBRARIES: Final = (
    "torch", "diffusers", "transformers", "safetensors", "numpy", "pillow", "av", "ftfy", "compel", "ourvidz",
)  # fmt: skip


def prepare(device: str, threads: int | None) -> None:
    """Make runs repeatable: the same arguments give the same bytes on the same kind of device, threads and versions.

    Call once, before any model is loaded, with CUBLAS_WORKSPACE_CONFIG already set. What follows from the CUDA
    lines was read, not measured: only a GPU can show it. Raises Misconfigured when the device is not there.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, and no pipeline reads such memory
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise Misconfigured(f"device {device} was asked for, and torch {torch.__version__} sees no CUDA device")
        if (torch.device(device).index or 0) >= torch.cuda.device_count():
            raise Misconfigured(f"device {device} was asked for, and there are {torch.cuda.device_count()}")
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def dtype_of(name: str | None, device: str) -> Any:
    """torch's type for "fp16" or "fp32"; None is fp16 on CUDA and fp32 on the CPU, where half precision is slow."""
    if name is None:
        name = "fp16" if device.startswith("cuda") else "fp32"
    return {"fp16": torch.float16, "fp32": torch.float32}[name]


def device_name(device: str) -> str:
    """The GPU's or the processor's name."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def versions(device: str) -> dict[str, str]:
    """Of Python and of every library that can change a pixel; on CUDA also its own, cuDNN's, and the GPU's name."""
    found = {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}
    if device.startswith("cuda"):
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
        found["gpu"] = device_name(device)
    return found


def total_memory(device: str) -> int | None:
    """Bytes of the device's own memory; None on the CPU, which has none."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.startswith("cuda") else None


def start_measuring(device: str) -> None:
    """Forget the last job's peak and its counts."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.reset_accumulated_memory_stats(device)


def memory(device: str) -> dict[str, float]:
    """What was used since `start_measuring`: GiB in what ends with `_gb`, the rest are counts.

    `peak_rss_gb` is the process's since its start. The CPU has no VRAM, not 0. On CUDA `num_alloc_retries` tells how
    often the allocator had to give its cache back to find room, `num_ooms` how often it found none.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB}
    if device.startswith("cuda"):
        found["vram_used_gb"] = torch.cuda.max_memory_allocated(device) / _GIB
        found["vram_reserved_gb"] = torch.cuda.max_memory_reserved(device) / _GIB
        found["vram_total_gb"] = torch.cuda.get_device_properties(device).total_memory / _GIB
        stats = torch.cuda.memory_stats(device)
        found |= {name: float(stats.get(name, 0)) for name in ("num_alloc_retries", "num_ooms")}
    return {name: round(value, 4) for name, value in found.items()}


def free() -> None:
    """Give memory back. Call outside the except block: the exception's frames hold tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def wait_for(device: str) -> None:
    """Until the device has done what it was given; without it a CUDA step's seconds measure only the queueing."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
