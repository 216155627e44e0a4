"""Drawing with WAN's original code, run as a program for each job: one frame is a picture, more are a video."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from workers.engines import reference_files
from workers.engines.config import WanScript
from workers.engines.drawing import Host, Say, deliver
from workers.engines.faults import Asked, Cancelled, InvalidParameters
from workers.engines.last_words import TRIES, failure, out_of_memory, told
from workers.engines.messages import Generate, Generated, Moved, Reduced
from workers.engines.png import encode_png
from workers.engines.program import GRACE_SECONDS, Program
from workers.engines.script_progress import ScriptProgress
from workers.engines.wan_command import OPTIONS, command, environment
from workers.engines.wan_output import Output
from workers.errors import Misconfigured, TryAgain
from workers.models import ModelSpec, render_size
from workers.presets import WAN_SHIFT, WAN_SOLVER
from workers.spool import sha256

ENGINE: Final = "wan_script"
"""By this name the history tells what it drew."""

TRIES_IN_TIME: Final = 2
"""A job that took too long so often will do so again, and each time costs the whole limit."""

_FOLDER: Final = ".wan_script"
_MULTIPLE: Final = 16


class WanScriptDrawing:
    """One request on its way through the script. `make_room` frees the device's memory for it, as far as it can."""

    def __init__(
        self,
        script: WanScript,
        host: Host,
        spec: ModelSpec,
        request: Generate,
        say: Say,
        make_room: Callable[[], None],
        *,
        grace: float = GRACE_SECONDS,
    ) -> None:
        """Raises InvalidParameters for what WAN does not do, Misconfigured when there is no script."""
        if request.num_images != 1:
            raise InvalidParameters(f"WAN makes 1 picture or video a job, got num_images {request.num_images}")
        if request.solver not in (None, WAN_SOLVER):
            raise InvalidParameters(f"the solver must be {WAN_SOLVER}, got {request.solver}")
        if unknown := sorted({reference.role for reference in request.references} - set(OPTIONS)):
            raise InvalidParameters(f"WAN takes references as {', '.join(OPTIONS)}; got {', '.join(unknown)}")
        if not script.path.is_file():
            raise Misconfigured(f"wan_script: {script.path} is no file", error_type="ScriptUnusable")
        self._script = script
        versions = {name: host.versions[name] for name in ("ourvidz", "av", "pillow")}
        self._host = replace(
            host, engine=ENGINE, versions={**versions, "wan_script": sha256(script.path.read_bytes())[:16]}
        )
        self._spec = spec
        self._request = request
        self._say = say
        self._make_room = make_room
        self._grace = grace
        self._size = render_size(request.width, request.height, spec.render_scale, multiple=_MULTIPLE)
        self._frames = 4 * ((request.frames - 1) // 4) + 1  # as the pipeline's drawing does
        self._folder = Path(request.spool) / _FOLDER
        self._seconds = 0.0
        self._peak_rss_gb = 0.0
        self._reduced = False

    def reduce(self) -> str | None:
        """See `Drawing`: one picture or video is no batch."""
        return None

    def denoise(self, cancelled: Callable[[], Asked]) -> None:
        """Run the script to its end. Raises as `Drawing.denoise`, and StageEnds for how it can fail.

        Whatever happens, nothing of it runs any more afterwards.
        """
        self._hold_references()
        self._make_room()
        shutil.rmtree(self._folder, ignore_errors=True)  # of an engine that was killed at it
        self._folder.mkdir()
        try:
            self._run(cancelled)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def finish(self) -> None:
        """See `Drawing`. Raises TryAgain and GiveUp for a file that is not what was asked."""
        if not self._request.done:
            try:
                self._write()
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)
        # Whoever prefers jobs of loaded models must not take this one for such: it ended with its program.
        gone = Moved(
            request_id=self._request.request_id,
            model=self._spec.name,
            parts=[],
            to="released",
            seconds=0.0,
            bytes=self._spec.bytes,
        )
        self._say(gone)
        honoured = self._request.references and self._script.references
        self._say(
            Generated(
                request_id=self._request.request_id,
                device_seconds=self._seconds,
                engine=ENGINE,
                model_digest=self._spec.digest or "",
                memory={"peak_rss_gb": round(self._peak_rss_gb, 4)},
                versions=self._host.versions,
                threads=self._host.threads,
                batches=[1],
                render_scale=str(self._spec.render_scale),
                reference_way="script" if honoured else None,
            )
        )

    @property
    def _output(self) -> Path:
        return self._folder / "output.mp4"  # of one frame too: a text-to-video task writes no pictures

    def _hold_references(self) -> None:
        """Believe the files by their digests, and say it once when they are of no use."""
        roles = list(reference_files.read(self._request))
        if roles and not self._script.references and not self._reduced:
            self._reduced = True
            options = ", ".join(OPTIONS[role] for role in roles)
            why = (
                f"WAN's original code takes {options} in text-to-video and ignores it (wan_script_references is false)"
            )
            self._say(Reduced(request_id=self._request.request_id, what="references", why=why))

    def _run(self, cancelled: Callable[[], Asked]) -> None:
        script, request = self._script, self._request
        line = command(script, self._spec.path, request, size=self._size, frames=self._frames, output=self._output)
        progress = ScriptProgress(request, self._spec, self._say)
        with Program(line, environment(os.environ, self._host.device), grace=self._grace) as program:
            for said in program.lines():
                if cancelled():
                    raise Cancelled
                if program.seconds > script.seconds:
                    what = f"{script.path.name} was ended after {script.seconds:g} s, at {progress.doing}"
                    raise TryAgain(f"Generation failed: {what}", error_type="ScriptTookTooLong", budget=TRIES_IN_TIME)
                progress.hear(said, program.seconds)
        ended = program.ended
        if ended is None:
            raise RuntimeError("a program was left that has not ended")
        self._seconds += ended.seconds
        self._peak_rss_gb = max(self._peak_rss_gb, ended.peak_rss_gb)
        errors = list(program.errors)
        words = told(errors, request.prompt) or told(program.output, request.prompt)
        if ended.code != 0:
            if out_of_memory(errors):
                raise MemoryError(f"{script.path.name} had no memory: {words}")
            raise failure(script.path, ended, errors, words)
        if not self._output.is_file():
            what = f"{script.path.name} ended well and wrote no file{': ' if words else ''}{words}"
            raise TryAgain(f"Generation failed: {what}", error_type="OutputMissing", budget=TRIES)

    def _write(self) -> None:
        started = time.monotonic()
        request, spool = self._request, Path(self._request.spool)
        output = Output(
            self._script.path.name,
            self._output.read_bytes(),
            size=self._size,
            frames=self._frames,
            prompt=request.prompt,
        )
        if self._frames == 1:
            data = encode_png(output.picture(), self._parameters())
        else:
            data = output.video(json.dumps(self._parameters(), ensure_ascii=False), spool)
        deliver(request, self._say, data, size=self._size, frames=self._frames, started=started)

    def _parameters(self) -> dict[str, str]:
        request, versions = self._request, self._host.versions
        may = request.embed_prompt and self._host.embed_prompt
        return {
            "Software": f"ourvidz {versions['ourvidz']}",
            **({"prompt": request.prompt} if may else {}),
            "seed": str(request.seed),
            "steps": str(request.steps),
            "guidance_scale": str(request.guidance_scale),
            "shift": str(WAN_SHIFT if request.shift is None else request.shift),
            "size": f"{self._size[0]}x{self._size[1]}",
            "frames": str(self._frames),
            "solver": WAN_SOLVER,
            "model": self._spec.name,
            "model_digest": self._spec.digest or "",
            "versions": " ".join(f"{name}={version}" for name, version in sorted(versions.items())),
        }
