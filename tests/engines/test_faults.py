"""What can be wrong with a request or with a model, said in one sentence, and the engine goes on."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.engines.asking import Studio
from workers.engines.faults import device_is_lost, failed, out_of_memory
from workers.engines.messages import Progress


def _save_without(source: Path, target: Path, dropped: str, replaced: dict[str, Any] | None = None) -> None:
    """Copy a safetensors file without the tensors whose name begins so. torch only here, in the test's process."""
    from safetensors.numpy import load_file, save_file

    weights = {name: tensor for name, tensor in load_file(str(source)).items() if not name.startswith(dropped)}
    save_file({**weights, **(replaced or {})}, str(target), metadata={"format": "pt"})


def _html(tiny: Path, broken: Path) -> None:
    (broken / "html.safetensors").write_text("<!DOCTYPE html><html><body>401</body></html>" * 20)


def _pickled(tiny: Path, broken: Path) -> None:
    (broken / "pickled.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))


def _truncated(tiny: Path, broken: Path) -> None:
    data = (tiny / "tiny-sdxl.safetensors").read_bytes()
    (broken / "truncated.safetensors").write_bytes(data[: len(data) // 2])


def _no_second_encoder(tiny: Path, broken: Path) -> None:
    _save_without(tiny / "tiny-sdxl.safetensors", broken / "no_second_encoder.safetensors", "conditioner.embedders.1")


def _beside(tiny: Path, broken: Path, name: str) -> Path:
    """A single file's place with the right config folder beside it, but no manifest that knows its digest."""
    config = broken / f"{name}.config"
    shutil.copytree(
        tiny / "tiny-sdxl.config", config, dirs_exist_ok=True, ignore=shutil.ignore_patterns("ourvidz-model.json")
    )
    return broken / f"{name}.safetensors"


def _wrong_shape(tiny: Path, broken: Path) -> None:
    import numpy

    key = "model.diffusion_model.input_blocks.0.0.weight"
    target = _beside(tiny, broken, "wrong_shape")
    _save_without(tiny / "tiny-sdxl.safetensors", target, key, {key: numpy.zeros((5, 4, 3, 3), "float32")})


def _no_unet_key(tiny: Path, broken: Path) -> None:
    target = _beside(tiny, broken, "no_unet_key")
    _save_without(tiny / "tiny-sdxl.safetensors", target, "model.diffusion_model.middle_block.0")


def _folder_without_key(tiny: Path, broken: Path) -> None:
    folder = broken / "folder_without_key"
    shutil.copytree(tiny / "tiny-sdxl", folder, ignore=shutil.ignore_patterns("ourvidz-model.json"))
    unet = "unet/diffusion_pytorch_model.safetensors"
    _save_without(tiny / "tiny-sdxl" / unet, folder / unet, "mid_block.resnets.0")


@pytest.mark.parametrize(
    ("model", "make", "sentence"),
    [
        ("missing", None, "does not exist"),
        ("html", _html, "is an HTML page, not weights"),
        ("pickled", _pickled, "only safetensors is loaded"),
        ("truncated", _truncated, "is truncated"),
        ("no_second_encoder", _no_second_encoder, "it has no second text encoder"),
        ("wrong_shape", _wrong_shape, "does not fit its configuration"),
        ("no_unet_key", _no_unet_key, "lacks weights"),
        ("folder_without_key", _folder_without_key, "weights of its unet"),
    ],
)
def test_a_bad_model_is_a_misconfiguration_in_one_sentence(
    studio: Studio, tiny: Path, broken: Path, model: str, make: Callable[[Path, Path], None] | None, sentence: str
) -> None:
    """The job is not burnt for it, the sentence names the file, and the process lives to serve the next request."""
    pid = studio.engine.ready().pid
    if make is not None:
        make(tiny, broken)
    failure = studio.ask(model=model).failed
    assert failure.error_class == "misconfiguration"
    assert sentence in failure.message
    assert str(broken / model) in failure.message
    assert "\n" not in failure.message
    assert studio.engine.pid == pid


@pytest.mark.skipif(find_spec("open_clip") is not None, reason="open_clip brings the vocabulary")
def test_a_file_without_a_config_folder_says_what_to_do(tmp_path: Path) -> None:
    """Rather than asking the hub for one."""
    from workers.engines.sdxl_config import write_config
    from workers.errors import Misconfigured

    with pytest.raises(Misconfigured, match=r"no config folder: put .* into .*lustify\.config"):
        write_config(tmp_path / "lustify.safetensors")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 0}, "Invalid parameters: steps must be at least 1, got 0"),
        ({"seed": -1}, "Invalid parameters: seed must be in 0..2**63-1, got -1"),
        ({"model": "dreams"}, "Invalid parameters: model 'dreams' is not configured; known: "),
        ({"job_type": "video"}, "Invalid parameters: job type 'video' is unknown; known: sdxl_image_fast, "),
    ],
)
def test_impossible_parameters_fail_for_good(studio: Studio, change: dict[str, Any], sentence: str) -> None:
    failure = studio.ask(**change).failed
    assert failure.error_class == "permanent"
    assert failure.message.startswith(sentence)


def test_a_cancelled_request_leaves_the_pipeline_usable(studio: Studio) -> None:
    """It ends between two steps, and the next picture is what it would have been."""
    undisturbed = studio.ask().bytes()
    asked, answers = studio.begin(steps=200, num_images=3)
    messages = []
    for message in answers:
        messages.append(message)
        if isinstance(message, Progress) and message.step == 2:
            studio.engine.cancel(asked.request_id)
    assert getattr(messages[-1], "error_class", None) == "cancelled"
    assert not list(Path(asked.spool).iterdir())
    assert studio.ask().bytes() == undisturbed


def test_errors_are_translated_into_the_specification_s_words() -> None:
    class OutOfMemoryError(RuntimeError):  # as torch calls its own
        pass

    def words(error: Exception) -> tuple[str, str]:
        told = failed("r", error)
        return told.error_class, told.message

    assert words(OutOfMemoryError("CUDA out of memory")) == ("device_memory", "Insufficient VRAM for generation")
    assert words(MemoryError()) == ("device_memory", "Insufficient VRAM for generation")
    assert words(ValueError("height")) == ("permanent", "Invalid parameters: height")
    assert words(RuntimeError("boom")) == ("permanent", "Generation failed: boom")
    assert words(OSError(28, "No space left on device"))[0] == "misconfiguration"


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (type("AcceleratorError", (RuntimeError,), {})("unspecified launch failure"), True),
        (RuntimeError("CUDA error: out of memory"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA error: said by somebody else"), False),
    ],
)
def test_a_broken_context_is_known_by_its_words(error: Exception, lost: bool) -> None:
    assert device_is_lost(error) is lost


def test_a_context_without_memory_is_whole() -> None:
    assert failed("r", RuntimeError("CUDA error: out of memory")).error_class == "device_memory"


@pytest.mark.parametrize(
    ("said", "short"),
    [
        ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", True),
        ("could not create a primitive", True),
        ("could not execute a primitive", True),
        ("could not create a primitive descriptor for a convolution forward propagation primitive", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_memory_is_known_by_the_words_of_whoever_wanted_it(said: str, short: bool) -> None:
    assert out_of_memory(RuntimeError(said)) is short
