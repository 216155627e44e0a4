"""Uploading: put the generated files where their owner can reach them."""

from typing import Final

from statemachine import decisions
from statemachine.events import AssetsLost, AssetUploaded, Event, MediaUploaded
from statemachine.job import Job
from statemachine.states import State
from workers.errors import GiveUp
from workers.output_check import DRAWING, check
from workers.storage.keys import asset_key
from workers.tools import Tools

EXTENSIONS: Final = {"image/png": "png", "video/mp4": "mp4"}

LOSSES: Final = 3
"""A host's spool that has lost a run's assets so often will lose them again."""


def run(job: Job, tools: Tools) -> list[Event]:
    """Upload every asset that no event says is uploaded. Safe to run twice.

    The key is made of the job and the asset's index, so a second run after a crash overwrites and never duplicates.
    """
    bucket = str(job.request.get("bucket") or job.job_type)
    if len(job.current_assets) < int(job.request.get("num_images", 1)):
        return _lost(job, [], "the history of this run does not hold all assets")
    drawn = job.media is not None and job.media.engine in DRAWING
    for asset in job.assets_to_upload:
        try:
            data = tools.spool.read(job.id, asset.name, asset.digest)
        except FileNotFoundError:
            return _lost(job, [asset.digest], f"{asset.name} is not in the spool, or is another file")
        if drawn:
            check(asset, data)
        key = asset_key(job.user_id, job.id, asset.index, EXTENSIONS.get(asset.content_type, ""))
        seconds = tools.renew(at_most=tools.settings.upload_seconds)
        tools.bucket.put(bucket, key, data, content_type=asset.content_type, seconds=seconds)
        tools.record(AssetUploaded(index=asset.index, bucket=bucket, key=key, digest=asset.digest, bytes=len(data)))
        if tools.job.cancel_by is not None:
            return decisions.cancelled(tools.job)
    return [MediaUploaded()]


def _lost(job: Job, missing: list[str], reason: str) -> list[Event]:
    """The seed is stored: generating can make them again. Raises GiveUp when that has not helped on this host."""
    lost = [a for a in job.tries(State.UPLOADING) if a.outcome == "assets lost" and a.host == job.host]
    if len(lost) + 1 >= LOSSES:
        raise GiveUp(f"Generation failed: assets were lost {LOSSES} times: {reason}", error_type="AssetsLost")
    return [AssetsLost(missing=missing, reason=reason)]
