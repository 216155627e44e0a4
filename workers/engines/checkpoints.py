"""Denoising kept safe: what is stored after a step, and how a run is taken up from there in another process.

Taking up is the same call of the same pipeline with the same arguments. Up to the stored step the denoiser is a
stand-in that costs nothing; then latents, scheduler and generators are set to what was stored. So one piece of code
serves every pipeline, and what a pipeline does before and after its loop is done as ever.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy
import torch
from safetensors.torch import load, save

_HEAD: Final = "ourvidz-checkpoint"
_REBUILT: Final = frozenset(
    {"_internal_dict", "betas", "alphas", "alphas_cumprod", "alpha_t", "sigma_t", "lambda_t", "sigmas", "timesteps"}
)
"""What a scheduler's `set_timesteps` makes anew; everything else in it is its state. UniPC's is its whole history."""


class Unusable(ValueError):
    """A checkpoint that is not of this very work; the message says in what it differs."""


class Unstorable(TypeError):
    """A scheduler's state that cannot be written down; the message says what of it."""


@dataclass(frozen=True)
class Saved:
    """A run after `step` of `of` steps. `tensors` are in host memory; `state` is the scheduler's, in plain JSON.

    `strides` tell how a tensor lay in memory: the same numbers in another order are added up in another order.

    `identity` names everything that decides about the bytes: a checkpoint of another identity is not taken up. `part`
    tells which images of a batch were drawn together.
    """

    identity: Mapping[str, Any]
    part: str
    step: int
    of: int
    seconds: float
    scheduler: str
    state: Mapping[str, Any]
    strides: Mapping[str, Sequence[int]] = field(repr=False)
    tensors: Mapping[str, Any] = field(repr=False)

    @property
    def more(self) -> dict[str, Any]:
        """What was kept beside the run's own state."""
        start = "more."
        return {name.removeprefix(start): self.tensor(name) for name in self.tensors if name.startswith(start)}

    def tensor(self, name: str) -> Any:
        """A tensor as it was, in host memory."""
        flat = self.tensors[name]
        return torch.empty_strided(flat.shape, tuple(self.strides[name]), dtype=flat.dtype).copy_(flat)

    def pack(self) -> bytes:
        """As a safetensors file with this head in its metadata."""
        head = {
            "identity": self.identity,
            "part": self.part,
            "step": self.step,
            "of": self.of,
            "seconds": self.seconds,
            "scheduler": self.scheduler,
            "state": self.state,
            "strides": self.strides,
        }
        return bytes(save(dict(self.tensors), metadata={_HEAD: json.dumps(head)}))

    @classmethod
    def unpack(cls, data: bytes, identity: Mapping[str, Any]) -> "Saved":
        """Raises Unusable for another identity, and for bytes that are no checkpoint."""
        length = int.from_bytes(data[:8], "little")
        try:
            head = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEAD])
            found = cls(tensors=load(data), **head)
        except (ValueError, KeyError, TypeError) as error:
            raise Unusable(f"it is no checkpoint of this program ({type(error).__name__})") from error
        plain = json.loads(json.dumps(identity))
        other = sorted(name for name in {*plain, *found.identity} if plain.get(name) != found.identity.get(name))
        if other:
            raise Unusable(f"it was made with another {', another '.join(other)}")
        return found


def taken(
    pipeline: Any,
    latents: Any,
    generators: Sequence[Any],
    *,
    identity: Mapping[str, Any],
    part: str,
    step: int,
    seconds: float,
    more: Mapping[str, Any],
) -> Saved:
    """The state of a run after `step` steps, copied to host memory: nothing in it changes when the run goes on.

    `more` are tensors that a later process need not compute again. Raises Unstorable for a scheduler whose state
    cannot be written down, such as one that draws its noise from a Brownian tree.
    """
    there: dict[str, Any] = {"latents": latents}
    there |= {f"generator.{index}": generator.get_state() for index, generator in enumerate(generators)}
    there |= {f"more.{name}": tensor for name, tensor in more.items() if tensor is not None}
    state = {
        name: _written(name, value, there) for name, value in vars(pipeline.scheduler).items() if name not in _REBUILT
    }
    return Saved(
        identity=identity,
        part=part,
        step=step,
        of=pipeline.num_timesteps,
        seconds=seconds,
        scheduler=type(pipeline.scheduler).__name__,
        state=state,
        strides={name: tensor.stride() for name, tensor in there.items()},
        tensors={name: _copied(tensor) for name, tensor in there.items()},
    )


@contextmanager
def skipping(denoiser: Any) -> Iterator[None]:
    """Within, the denoiser answers with zeros of the right shape and computes nothing."""
    patched = vars(denoiser).get("forward")  # a hook of somebody else's may be there already

    def nothing(*arguments: Any, **named: Any) -> tuple[Any]:
        given: Any = arguments[0] if arguments else named.get("hidden_states", named.get("sample"))
        return (given.new_zeros((given.shape[0], denoiser.config.out_channels, *given.shape[2:])),)

    denoiser.forward = nothing
    try:
        yield
    finally:
        del denoiser.forward
        if patched is not None:
            denoiser.forward = patched


def put_back(saved: Saved, pipeline: Any, generators: Sequence[Any], latents: Any) -> Any:
    """Set scheduler and generators to what was stored, and return the stored latents where `latents` are."""
    if type(pipeline.scheduler).__name__ != saved.scheduler:
        raise Unusable(f"it was made with the scheduler {saved.scheduler}")
    for name, value in saved.state.items():
        setattr(pipeline.scheduler, name, _read(value, saved, latents.device))
    for index, generator in enumerate(generators):
        generator.set_state(saved.tensor(f"generator.{index}"))
    return saved.tensor("latents").to(latents.device, latents.dtype)


def _copied(tensor: Any) -> Any:
    """Always a copy: on the CPU `.cpu()` alone would be the very tensor that the next step changes."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _written(name: str, value: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    match value:
        case torch.Tensor():
            tensors[f"scheduler.{name}"] = value
            return {"tensor": f"scheduler.{name}", "device": value.device.type}
        case list() | tuple():
            return {"list": [_written(f"{name}.{index}", part, tensors) for index, part in enumerate(value)]}
        case None | bool() | int() | float() | str():
            return {"value": value}
        case numpy.generic():
            return {"value": value.item()}
        case _:
            raise Unstorable(f"the scheduler's {name} is a {type(value).__name__}, which cannot be stored")


def _read(stored: Mapping[str, Any], saved: Saved, device: Any) -> Any:
    if "tensor" in stored:
        return saved.tensor(stored["tensor"]).to("cpu" if stored["device"] == "cpu" else device)
    if "list" in stored:
        return [_read(part, saved, device) for part in stored["list"]]
    return stored["value"]
