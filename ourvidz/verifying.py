"""Verifying everything, one job, or what happened since: histories, projections, anchors, files."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ourvidz.wording import printable
from statemachine.anchor import Key
from statemachine.finding import Finding
from statemachine.job import Job
from statemachine.store import EventStore
from statemachine.store.against_anchors import Seen, Tail, first_since, known_of, tail, verify_anchors, verify_some
from statemachine.store.reading import jobs_by_id
from statemachine.store.verify import LATE, Verified, since, verify
from workers.asset_check import AssetCheck
from workers.content_check import content_findings
from workers.ports import Bucket

_LOGGED: Final = re.compile(r"anchor\W.{0,20}?(?<![0-9a-f])(\d{1,9}):([0-9a-f]{64})(?![0-9a-f])")


class Looked(msgspec.Struct, kw_only=True):
    """What was looked at so far.

    `late` are events that had waited long for their anchor; `unproven` anchors have a key that is not at hand;
    `not_asked` is of files.
    """

    jobs: int = 0
    archived: int = 0
    events: int = 0
    late: int = 0
    anchors: int = 0
    unproven: int = 0
    files: int = 0
    not_asked: int = 0


class Verifying:
    """One verification. What is wrong is yielded as it is found, a batch at a time; `looked` grows with it.

    Files are looked at where `bucket` is given. `keys` must have made the anchors from `keyed_from` on, one of which is
    made every `anchor_seconds`; `logged` is what a log says of them.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        bucket: Bucket | None = None,
        keys: Sequence[Key] = (),
        keyed_from: int = 1,
        logged: Mapping[int, frozenset[str]] | None = None,
        anchor_seconds: float = 60.0,
    ) -> None:
        self._store = store
        self._keys = keys
        self._keyed_from = keyed_from
        self._patience = max(LATE, timedelta(seconds=2 * anchor_seconds))
        self._logged = logged
        self._files = None if bucket is None else AssetCheck(bucket, self._moved)
        self.looked = Looked()

    def everything(self) -> Iterator[list[Finding]]:
        """All that the database tells of."""
        for batch in verify(self._store.engine, patience=self._patience):
            yield self._jobs(batch)
        yield from self._chain(first=1)

    def since(self, moment: datetime) -> Iterator[list[Finding]]:
        """Jobs that were queued or have changed since then, and the anchors that were made since."""
        with self._store.read() as connection:
            job_ids, first = since(connection, moment), first_since(connection, moment)
        for batch in verify(self._store.engine, job_ids, patience=self._patience):
            yield self._jobs(batch)
        yield from self._chain(first=first)

    def one(self, job_id: str) -> Iterator[list[Finding]]:
        """One job, and the anchors that cover it."""
        for batch in verify(self._store.engine, [job_id], patience=self._patience):
            yield self._jobs(batch)
        with self._store.read() as connection:
            covering = [known.anchor for known in known_of(connection, [job_id])[job_id]]
        for seen in verify_some(self._store.engine, covering, keys=self._keys, keyed_from=self._keyed_from):
            yield self._anchor(seen)

    def tail(self) -> Tail:
        """What no anchor covers yet."""
        with self._store.read() as connection:
            return tail(connection)

    def _jobs(self, batch: list[Verified]) -> list[Finding]:
        findings = [finding for verified in batch for finding in verified.findings]
        self.looked.jobs += len(batch)
        self.looked.archived += sum(verified.archived for verified in batch)
        self.looked.events += sum(verified.events for verified in batch)
        self.looked.late += sum(verified.late for verified in batch)
        findings += [found for verified in batch for found in content_findings(verified.job, verified.payload)]
        if self._files is not None:
            findings += self._files.check([(verified.job, verified.uploads) for verified in batch])
            self.looked.files, self.looked.not_asked = self._files.looked_at, self._files.not_asked
        return findings

    def _chain(self, *, first: int) -> Iterator[list[Finding]]:
        engine, keyed_from = self._store.engine, self._keyed_from
        for seen in verify_anchors(engine, keys=self._keys, keyed_from=keyed_from, first=first, logged=self._logged):
            yield self._anchor(seen)

    def _anchor(self, seen: Seen) -> list[Finding]:
        self.looked.anchors += seen.there
        self.looked.unproven += seen.unproven
        return seen.findings

    def _moved(self, job: Job) -> bool:
        with self._store.read() as connection:
            return [row["version"] for row in jobs_by_id(connection, [job.id])] != [job.version]


def roots_in(lines: Iterable[str]) -> dict[int, frozenset[str]]:
    """The roots that a log tells of, by the number of their anchors; of two for one number, one was made later."""
    roots: dict[int, frozenset[str]] = {}
    for line in lines:
        for found in _LOGGED.finditer(line):
            roots[int(found[1])] = roots.get(int(found[1]), frozenset()) | {found[2]}
    return roots


def finding_document(finding: Finding) -> dict[str, object]:
    """A finding for programs."""
    return {
        "kind": finding.kind.value,
        "job": finding.job_id,
        "version": finding.version,
        "anchor": finding.anchor,
        "file": finding.asset,
        "said": finding.said,
    }


def sentence(finding: Finding) -> str:
    """A finding for people: where, and what."""
    where = f"job {finding.job_id}" if finding.job_id else f"anchor {finding.anchor}"
    if finding.job_id and finding.version:
        where += f", version {finding.version}"
    if finding.asset:
        where += f", {finding.asset}"
    return printable(f"{where}: {finding.said} [{finding.kind}]")
