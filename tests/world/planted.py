"""Planted bugs: source patches, applied to a copy of the tree. The world must find each of them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Bug:
    """In each patch (file, before, after), `before` stands once in the file. The scenario on the kind must fail."""

    name: str
    kind: str
    scenario: str
    patches: tuple[tuple[str, str, str], ...]


BUGS: Final = (
    Bug(
        "token not compared",
        "one image",
        "takeover",
        (
            ("statemachine/store/append.py", " AND jobs.token = fresh.expected_token ", " "),
            (
                "statemachine/store/append.py",
                "if found is not None and found.token == job.token:",
                "if found is not None:",
            ),
            ("workers/recorder.py", "if fresh.token != job.token:", "if fresh.state.terminal:"),
        ),
    ),
    Bug(
        "version not compared",
        "one image",
        "operator",
        (("statemachine/store/append.py", " AND jobs.version = fresh.expected_version", ""),),
    ),
    Bug(
        "acknowledged before commit",
        "one image",
        "crash",
        (
            (
                "workers/ingress.py",
                "        arrivals = [self._arrival(raw, now) for raw in payloads]\n",
                "        self.lists.drop(payloads)\n        arrivals = [self._arrival(raw, now) for raw in payloads]\n",
            ),
        ),
    ),
    Bug(
        "event written before its effect",
        "one image",
        "crash",
        (
            (
                "workers/stages/uploading.py",
                "        tools.bucket.put(",
                "        tools.record(AssetUploaded(index=asset.index, bucket=bucket, key=key, digest=asset.digest,"
                " bytes=len(data)))\n"
                "        tools.bucket.put(",
            ),
            (
                "workers/stages/uploading.py",
                "seconds=seconds)\n        tools.record(",
                "seconds=seconds)\n        continue\n        tools.record(",
            ),
        ),
    ),
    Bug(
        "digest not read",
        "one image",
        "crash and rot",
        (("workers/spool.py", "        if sha256(data) != digest:\n", "        if False:\n"),),
    ),
    Bug(
        "lost reference not missed",
        "video from start to end",
        "crash and rot",
        (("workers/stages/generating.py", "    if lost:\n        return lost\n", ""),),
    ),
)
