"""Planted bugs: source patches, applied to a copy of the tree. Each must be found, and for its own reason."""

from dataclasses import dataclass
from typing import Final, NamedTuple


class Worlds(NamedTuple):
    """Of this kind, in which this fault strikes at each effect in turn."""

    kind: str
    fault: str


@dataclass(frozen=True)
class Bug:
    """In each patch (file, before, after), `before` stands once in the file. `does` says what they do.

    `finder` is worlds, or a test of the suite; `complaint` is what it must say then, so that no patch is found that
    merely breaks an import.
    """

    name: str
    does: str
    finder: Worlds | str
    complaint: str
    patches: tuple[tuple[str, str, str], ...]


BUGS: Final = (
    Bug(
        name="token not compared",
        does="appends compare the version alone, and a stale writer loads the job again as if it still held it",
        finder=Worlds("one image", "takeover"),
        complaint="callback_sent was written by w1, the job was w2's",
        patches=(
            ("statemachine/store/append.py", " AND jobs.token = fresh.expected_token ", " "),
            ("statemachine/store/append.py", "AND jobs.digest = fresh.expected_digest ", ""),
            (
                "statemachine/store/append.py",
                "if found is not None and found.token == job.token:",
                "if found is not None:",
            ),
            ("workers/recorder.py", "if fresh.token != job.token:", "if fresh.state.terminal:"),
        ),
    ),
    Bug(
        name="version not compared",
        does="appends compare the token alone",
        finder=Worlds("one image", "operator"),
        complaint="the service was surprised: ['unexpected: IntegrityError'",
        patches=(
            ("statemachine/store/append.py", " AND jobs.version = fresh.expected_version", ""),
            ("statemachine/store/append.py", "AND jobs.digest = fresh.expected_digest ", ""),
        ),
    ),
    Bug(
        name="acknowledged before the commit",
        does="ingress removes payloads from its list before the store has them",
        finder=Worlds("one image", "crash"),
        complaint="lost: 1 pushes, 0 jobs, 0 dead letters",
        patches=(
            (
                "workers/ingress.py",
                "        arrivals = [self._arrival(raw, now) for raw in payloads]\n",
                "        self.lists.drop(payloads)\n        arrivals = [self._arrival(raw, now) for raw in payloads]\n",
            ),
        ),
    ),
    Bug(
        name="event before its effect",
        does="`asset_uploaded` is written before the upload",
        finder=Worlds("one image", "crash"),
        complaint="is uploaded again",
        patches=(
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
        name="digest unread",
        does="a file of the spool is believed as it lies there",
        finder=Worlds("one image", "crash and rot"),
        complaint="asset 0 differs",
        patches=(("workers/spool.py", "        if sha256(data) != digest:\n", "        if False:\n"),),
    ),
    Bug(
        name="lost reference not missed",
        does="generating begins without looking whether its references are there",
        finder=Worlds("video from start to end", "crash and rot"),
        complaint="the start reference is not in the spool as a picture",
        patches=(("workers/stages/generating.py", "    if lost:\n        return lost\n", ""),),
    ),
    Bug(
        name="failures uncounted",
        does="a stage that fails is tried again however often it has failed",
        finder=Worlds("no memory", "crash"),
        complaint="not settled after 200 rounds: ['generating']",
        patches=(
            (
                "statemachine/decisions.py",
                "    return (limit is not None and len(failed) + 1 >= limit) or",
                "    return (limit is not None and limit == 1) or",
            ),
        ),
    ),
    Bug(
        name="crashes uncounted",
        does="a job that kills its engine is taken up again however often it did: poison is never reached",
        finder=Worlds("poison", "crash"),
        complaint="not settled after 200 rounds: ['generating']",
        patches=(
            ("statemachine/decisions.py", "return deaths + job.lost_waiting + 1 >= _crash", "return 1 >= _crash"),
        ),
    ),
    Bug(
        name="generator state not resumed",
        does="the generators stay where they are when a checkpoint is taken up: what follows draws other noise",
        finder="tests/engines/test_checkpoints.py::test_a_denoising_goes_on_from_nothing_but_its_checkpoint",
        complaint="what follows the checkpoint differs from an undisturbed run",
        patches=(
            (
                "workers/engines/checkpoints.py",
                "    for index, generator in enumerate(generators):\n"
                '        generator.set_state(saved.tensor(f"generator.{index}"))\n',
                "",
            ),
        ),
    ),
    Bug(
        name="lease without end",
        does="the supervisor ends no lease, however long nobody has renewed it",
        finder=Worlds("one image", "crash"),
        complaint="not settled after 200 rounds: ['generating']",
        patches=(("workers/supervisor.py", "since >= length", "since >= length * 1e9"),),
    ),
    Bug(
        name="processing told after the outcome",
        does="nobody looks at the lease before a callback, so a worker that stood still tells what is long over",
        finder=Worlds("one image", "stall"),
        complaint="told out of order",
        patches=(("workers/stages/callback.py", "seconds = tools.renew(at_most=at_most)", "seconds = at_most"),),
    ),
    Bug(
        name="removed by position",
        does="ingress removes from its list whatever is oldest there, and not what it has settled",
        finder="tests/test_ingress.py::test_a_payload_over_which_the_store_stumbles_harms_no_neighbour",
        complaint="what is not settled has left the list",
        patches=(
            (
                "workers/lists.py",
                "sum(self._each(lambda p: [p.lrem(self._own, -1, cast(str, raw)) for raw in payloads]))",
                "sum(raw is not None for raw in self._each(lambda p: [p.rpop(self._own) for _ in payloads]))",
            ),
        ),
    ),
    Bug(
        name="lost acknowledgement taken for a failure",
        does="events that are already there, since only the commit's answer was lost, are refused as another's",
        finder=Worlds("one image", "lost acknowledgement"),
        complaint="told more than once: {(1, 'stage_started',",
        patches=(
            (
                "statemachine/store/append.py",
                "if _digest_at(connection, job.id, last.version) == last.digest:",
                "if False:",
            ),
        ),
    ),
    Bug(
        name="checkpoint removed too soon",
        does="older checkpoints go before the event of the new one is committed",
        finder=Worlds("one image", "crash"),
        complaint="a checkpoint is missed, and no file was lost",
        patches=(
            (
                "workers/stages/generating.py",
                "            case CheckpointWritten():\n",
                "            case CheckpointWritten():\n"
                "                for older in tools.job.checkpoints:\n"
                "                    tools.spool.discard(job.id, older.name)\n",
            ),
        ),
    ),
)
