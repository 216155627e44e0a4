"""An IP-Adapter for SDXL: loaded once beside a model, and put on its UNet only while a reference is drawn with.

Taken off it leaves nothing behind, so that a picture without a reference has the bytes that it has without an adapter.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from transformers import CLIPVisionModelWithProjection

from workers.adapters import IMAGE_ENCODER, adapter_file
from workers.engines.config import LOADING
from workers.engines.drawing import Host, Resident, Say
from workers.engines.loading import check_whole, sentences
from workers.engines.messages import Alive, Loaded
from workers.engines.sdxl_reference import Scale
from workers.errors import Misconfigured
from workers.models import ModelSpec, inspect_model
from workers.presets import IP_ADAPTER, SDXL_IP_ADAPTER

NETWORK: Final = "ip_adapter"
"""The name of its own network among the model's parts; that of the other one is IMAGE_ENCODER."""


class IpAdapter:
    """An adapter's two networks, in the host's memory until they are brought to the device."""

    def __init__(self, pipeline: Any, folder: Path, digest: str) -> None:
        """Load it for this pipeline's UNet, in its precision. Raises Misconfigured with one sentence."""
        self.digest = digest
        self._unet = pipeline.unet
        self._plain = dict(self._unet.attn_processors)
        with sentences(folder):
            encoder = CLIPVisionModelWithProjection.from_pretrained(
                str(folder / IMAGE_ENCODER), use_safetensors=True, local_files_only=True
            )
            self.image_encoder = encoder.eval().to(self._unet.dtype)
            # A pipeline of its own, sharing all weights: the model's never has an encoder that may lie elsewhere.
            self._pipeline = StableDiffusionXLPipeline(
                **{**pipeline.components, "image_encoder": self.image_encoder}, add_watermarker=False
            )
            check_whole(folder, self._pipeline, (IMAGE_ENCODER,))
            try:
                self._pipeline.load_ip_adapter(
                    str(folder), subfolder="", weight_name=adapter_file(folder).name, local_files_only=True
                )
                self._projection = self._unet.encoder_hid_proj
                self._unet.encoder_hid_proj = None  # of the plus kind it has attentions of its own, which stay in it
                self._processors = dict(self._unet.attn_processors)
            finally:
                self._put(self._plain, None)
            modules = [each for each in self._processors.values() if isinstance(each, torch.nn.Module)]
            self.network = torch.nn.ModuleList([*modules, self._projection]).to("cpu")

    def look(self, picture: Image.Image, device: str, *, guided: bool) -> list[Any]:
        """What a pipeline takes as `ip_adapter_image_embeds`. The image encoder must be on the device."""
        with torch.no_grad(), self.worn(0.0):
            embeddings = self._pipeline.prepare_ip_adapter_image_embeds(picture, None, device, 1, guided)
        return list(embeddings)

    @contextmanager
    def worn(self, scale: Scale) -> Iterator[None]:
        """Within, whatever is drawn with the UNet hears the reference as loudly as `scale` says."""
        self._put(self._processors, self._projection)
        try:
            self._pipeline.set_ip_adapter_scale(scale)
            yield
        finally:
            self._put(self._plain, None)

    def _put(self, processors: dict[str, Any], projection: Any) -> None:
        self._unet.encoder_hid_proj = None  # whose own attentions would be asked for, too
        self._unet.set_attn_processor(dict(processors))  # which empties the dict that it is given
        self._unet.encoder_hid_proj = projection
        self._unet.config.encoder_hid_dim_type = None if projection is None else "ip_image_proj"


def adapter_digest(host: Host, resident: Resident) -> str:
    """Of the adapter that this model draws with: as it was loaded, or as it lies there. Raises Misconfigured."""
    found = resident.kept.get(NETWORK)
    return found.digest if isinstance(found, IpAdapter) else _inspected(host).digest or ""


def adapter_of(host: Host, resident: Resident, say: Say, request_id: str) -> IpAdapter:
    """The model's adapter, loaded with the first request that needs it. Raises Misconfigured."""
    found = resident.kept.get(NETWORK)
    if isinstance(found, IpAdapter):
        return found
    say(Alive(request_id=request_id, doing=f"{LOADING} {IP_ADAPTER}"))
    started = time.monotonic()
    spec = _inspected(host)
    digest = spec.digest or ""
    adapter = resident.kept[NETWORK] = IpAdapter(resident.pipeline, spec.path, digest)
    resident.add(IMAGE_ENCODER, adapter.image_encoder)
    resident.add(NETWORK, adapter.network)
    seconds = time.monotonic() - started
    say(Loaded(request_id=request_id, model=IP_ADAPTER, seconds=seconds, bytes=spec.bytes, digest=digest))
    return adapter


def _inspected(host: Host) -> ModelSpec:
    if host.sdxl_ip_adapter is None:
        raise Misconfigured("no IP-Adapter is configured (sdxl_ip_adapter)", error_type="ModelUnusable")
    spec = inspect_model(IP_ADAPTER, SDXL_IP_ADAPTER, host.sdxl_ip_adapter, cache=host.digests, compute_digest=True)
    if spec.problem is not None:
        raise Misconfigured(spec.problem, error_type="ModelUnusable")
    return spec
