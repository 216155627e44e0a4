"""What WAN's original code has written, judged and made into what the job asked for."""

from pathlib import Path
from typing import Final

from PIL import Image

from workers.engines.last_words import TRIES, told
from workers.engines.mp4 import decode_mp4, encode_mp4, remux_mp4
from workers.errors import GiveUp, TryAgain
from workers.presets import WAN_FPS
from workers.videos import NoVideo, facts_of

_TOLD_BYTES: Final = 2000


class Output:
    """One file of the script's, which is a video of that size and so many frames. `script` is its file name."""

    def __init__(self, script: str, data: bytes, *, size: tuple[int, int], frames: int, prompt: str) -> None:
        """Decode all of it. Raises TryAgain for what is no whole video, GiveUp for another video than was asked."""
        self._data = data
        try:
            self._facts = facts = facts_of(data)
        except NoVideo as error:
            if error.instead == "picture":
                raise _bad(script, "wrote a picture where a video was asked", "OutputKind") from error
            what = f"wrote what is no whole video: {error}"
            if error.instead == "text":
                lines = data[:_TOLD_BYTES].decode("utf-8", "replace").splitlines()
                what = f"wrote a text instead of a video: {told(lines, prompt)}"
            raise TryAgain(
                f"Generation failed: {script} {what}", error_type="OutputUnreadable", budget=TRIES
            ) from error
        if (facts.width, facts.height) != size:
            what = f"made {facts.width}*{facts.height} pixels instead of {size[0]}*{size[1]}"
            raise _bad(script, what, "OutputSize")
        if facts.frames != frames:
            raise _bad(script, f"made {facts.frames} frames instead of {frames}", "OutputFrames")

    def picture(self) -> Image.Image:
        """The first frame."""
        return Image.fromarray(decode_mp4(self._data)[0])

    def video(self, comment: str, folder: Path) -> bytes:
        """An MP4 that plays anywhere: the same pictures where they do already, otherwise encoded again."""
        if (self._facts.codec, self._facts.pixel_format, self._facts.rate) == ("h264", "yuv420p", WAN_FPS):
            return remux_mp4(self._data, comment=comment, folder=folder)
        return encode_mp4(decode_mp4(self._data), fps=WAN_FPS, comment=comment, folder=folder)


def _bad(script: str, what: str, error_type: str) -> GiveUp:
    """For what the same arguments would only bring about again."""
    return GiveUp(f"Generation failed: {script} {what}", error_type=error_type)
