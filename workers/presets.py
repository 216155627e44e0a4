"""The ten job types: one table, from the specification of the worker API. Its order is the order of listings."""

from collections.abc import Mapping
from typing import Final

import msgspec

SDXL: Final = "sdxl"
WAN: Final = "wan"
WAN_VACE: Final = "wan_vace"
SDXL_IP_ADAPTER: Final = "sdxl_ip_adapter"
QWEN: Final = "qwen"

WAN_TASK: Final = "t2v-1.3B"
WAN_SOLVER: Final = "unipc"
WAN_SHIFT: Final = 5.0
WAN_FPS: Final = 16

LUSTIFY: Final = "lustify_sdxl"
WAN_1_3B: Final = "wan_2_1_1_3b"
WAN_VACE_1_3B: Final = "wan_2_1_vace_1_3b"
QWEN_7B: Final = "qwen_2_5_7b"
IP_ADAPTER: Final = "ip_adapter_sdxl"
"""The last three are no variants that a payload may name: they serve jobs of the others."""

KNOWN_VARIANTS: Final[Mapping[str, str]] = {LUSTIFY: SDXL, WAN_1_3B: WAN}
"""Model variant → family: what the producer knows today. A service with more models passes a table of its own."""


class Preset(msgspec.Struct, frozen=True):
    """What a job of this type is when its payload says nothing else. `expected_time` in seconds."""

    job_type: str
    family: str
    media: str
    quality: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    frame_num: int
    enhance: bool
    expected_time: float
    model: str

    @property
    def bucket(self) -> str:
        """Where its assets go: the bucket has the type's name."""
        return self.job_type

    @property
    def queue(self) -> str:
        """The Redis list that the producer pushes it onto."""
        return "sdxl_queue" if self.family == SDXL else "wan_queue"

    @property
    def extension(self) -> str:
        """Of its assets' file names."""
        return "mp4" if self.media == "video" else "png"

    @property
    def content_type(self) -> str:
        """The MIME type of its assets."""
        return "video/mp4" if self.media == "video" else "image/png"

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of assets that one job may ask for."""
        return (1, 3, 6) if self.family == SDXL else (1,)

    @property
    def frames(self) -> int:
        """Frames that are really made: WAN's VAE makes 4k + 1, so 83 becomes 81."""
        return 4 * ((self.frame_num - 1) // 4) + 1


_ROWS: Final = (
    #      job type                family media    quality  width height steps guidance frames enhance seconds model
    Preset("sdxl_image_fast",       SDXL, "image", "fast", 1024, 1024,   15,    6.0,     1, False,  30.0, LUSTIFY),
    Preset("sdxl_image_high",       SDXL, "image", "high", 1024, 1024,   25,    7.5,     1, False,  42.0, LUSTIFY),
    Preset("image_fast",            WAN,  "image", "fast",  480,  832,   25,    6.5,     1, False,  40.0, WAN_1_3B),
    Preset("image_high",            WAN,  "image", "high",  480,  832,   50,    7.5,     1, False, 100.0, WAN_1_3B),
    Preset("video_fast",            WAN,  "video", "fast",  480,  832,   25,    6.5,    83, False, 180.0, WAN_1_3B),
    Preset("video_high",            WAN,  "video", "high",  480,  832,   50,    7.5,    83, False, 240.0, WAN_1_3B),
    Preset("image7b_fast_enhanced", WAN,  "image", "fast",  480,  832,   25,    6.5,     1, True,  100.0, WAN_1_3B),
    Preset("image7b_high_enhanced", WAN,  "image", "high",  480,  832,   50,    7.5,     1, True,  240.0, WAN_1_3B),
    Preset("video7b_fast_enhanced", WAN,  "video", "fast",  480,  832,   25,    6.5,    83, True,  240.0, WAN_1_3B),
    Preset("video7b_high_enhanced", WAN,  "video", "high",  480,  832,   50,    7.5,    83, True,  240.0, WAN_1_3B),
)  # fmt: skip

PRESETS: Final[Mapping[str, Preset]] = {preset.job_type: preset for preset in _ROWS}
"""Job type → preset."""

BUCKETS: Final = frozenset(PRESETS)
"""The buckets that a payload may name: the ten job types' own."""

REFERENCE_BUCKETS: Final = ("reference_images", "workspace_assets")
"""Where users' references lie. They may be private."""

QUEUES: Final = ("sdxl_queue", "wan_queue")
"""The lists of the producer."""
