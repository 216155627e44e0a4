"""The models that the settings name: those that draw, and those that serve them."""

from pathlib import Path
from typing import Final, NamedTuple

from ourvidz.settings import Settings
from workers.presets import (
    IP_ADAPTER,
    LUSTIFY,
    QWEN,
    QWEN_7B,
    SDXL,
    SDXL_IP_ADAPTER,
    WAN,
    WAN_1_3B,
    WAN_VACE,
    WAN_VACE_1_3B,
)


class Kind(NamedTuple):
    """A setting that names a model. `serves` is the setting of the model without which nobody asks for this one."""

    setting: str
    name: str
    family: str
    serves: str | None = None


KINDS: Final = (
    Kind("sdxl_model", LUSTIFY, SDXL),
    Kind("sdxl_ip_adapter", IP_ADAPTER, SDXL_IP_ADAPTER, "sdxl_model"),
    Kind("wan_model", WAN_1_3B, WAN),
    Kind("wan_vace_model", WAN_VACE_1_3B, WAN_VACE, "wan_model"),
    Kind("qwen_model", QWEN_7B, QWEN),
)
"""In the order of listings."""


class Configured(NamedTuple):
    """A model that is set. `original` is one in the format of WAN's own code; `idle` says why nobody asks for it."""

    kind: Kind
    path: Path
    original: bool
    idle: str | None


def configured(settings: Settings) -> list[Configured]:
    """Every model that is set, in the order of KINDS."""
    found = []
    script = settings.wan_engine == "script"
    for kind in KINDS:
        path = getattr(settings, kind.setting)
        if path is None:
            continue
        idle = None
        if kind.serves is not None and getattr(settings, kind.serves) is None:
            idle = f"{kind.serves} is not set, and no job asks for this model without it"
        elif kind.family == WAN_VACE and script and settings.wan_script_references:
            idle = "wan_script_references is set: WAN's own code takes the references"
        found.append(Configured(kind, path, script and kind.family == WAN, idle))
    return found
