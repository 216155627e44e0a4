"""Histories and anchors held against each other."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, func, select

from statemachine.anchor import Anchor, Key, Leaf, find, root
from statemachine.finding import Finding, Wrong, gone
from statemachine.store.anchors import anchor_at, newest
from statemachine.store.anchors_schema import anchored_jobs, anchors
from statemachine.store.database import reading
from statemachine.store.schema import job_events

BATCH: Final = 20
"""Anchors in one read, of up to 10,000 jobs each."""


WITHOUT_KEY: Final = "it was made without the key that is set here"


class Known(Leaf, frozen=True, kw_only=True):
    """What an anchor knows of a job, and when it was made."""

    anchor: int
    at: datetime | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One anchor was looked for. `unproven`: it was made with a key, and none is at hand to try it with."""

    there: bool = True
    findings: list[Finding]
    unproven: bool = False


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """What no anchor covers yet."""

    events: int
    since: datetime | None


def known_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[Known]]:
    """What the anchors know of these jobs, in the order of their versions."""
    known: dict[str, list[Known]] = {job_id: [] for job_id in job_ids}
    made = anchored_jobs.join(anchors, anchors.c.sequence == anchored_jobs.c.anchor, isouter=True)
    statement = select(anchored_jobs, anchors.c.at).select_from(made).where(anchored_jobs.c.job_id.in_(job_ids))
    for row in connection.execute(statement.order_by(anchored_jobs.c.job_id, anchored_jobs.c.version)).mappings():
        known[row["job_id"]].append(Known(**row))
    return known


def contradictions(job_id: str, rows: Sequence[Any], known: Sequence[Known], up_to: int) -> Iterator[Finding]:
    """What the anchors, which reach up to that position, know otherwise than the job's rows tell it."""
    by_version = {row.version: row for row in rows}
    last = rows[-1].version if rows else 0
    for one in known:
        if one.version > last:
            missing = gone("version", last + 1, known[-1].version)
            said = f"{missing} not there, and anchor {known[-1].anchor} covers version {known[-1].version}"
            yield Finding(kind=Wrong.CUT, job_id=job_id, version=last + 1, anchor=known[-1].anchor, said=said)
            break
        row = by_version.get(one.version)
        if row is not None and row.digest != one.digest:
            said = f"this event, or one before it, is not what anchor {one.anchor} covers"
            yield Finding(kind=Wrong.REWRITTEN, job_id=job_id, version=one.version, anchor=one.anchor, said=said)
            break  # those behind it follow from it
    covered = known[-1].version if known else 0
    for row in rows:
        if row.version > covered and row.position <= up_to:
            said = f"{row.kind} stands among events that were anchored long ago, and no anchor covers it"
            yield Finding(kind=Wrong.INSERTED, job_id=job_id, version=row.version, said=said)
            break


def late(rows: Sequence[Any], known: Sequence[Known], limit: timedelta) -> int:
    """How many events had waited longer than that for their anchor: whoever cut anchors off had them made again."""
    waited, before = 0, 0
    for one in known:
        if one.at is not None:
            waited += sum(before < row.version <= one.version and one.at - row.at > limit for row in rows)
        before = one.version
    return waited


def verify_anchors(
    engine: Engine,
    *,
    keys: Sequence[Key],
    keyed_from: int = 1,
    first: int = 1,
    logged: Mapping[int, frozenset[str]] | None = None,
) -> Iterator[Seen]:
    """Check the chain from anchor `first` to its end, a batch at a time.

    With `keys`, one of them must have made each anchor from `keyed_from` on. `logged` are the roots that a log has.
    """
    before: Anchor | None = None
    at_hand, unkeyed = dict(logged or {}), False
    while True:
        with reading(engine) as connection:
            if before is None:
                before = _before(connection, first)
            above = first - 1 if before is None else before.sequence
            batch = _batch(connection, above)
            done = []
            for anchor, leaves in batch:
                said = at_hand.pop(anchor.sequence, None)
                without = _without_key(anchor, keys, keyed_from)
                done.append(_seen(before, anchor, leaves, keys=keys, unkeyed=without and not unkeyed, logged=said))
                unkeyed = without  # of many in a row the first is named
                before = anchor
        yield from done
        if not batch:
            break
    with reading(engine) as connection:
        empty = tail(connection).events == 0
    cut = [sequence for sequence in sorted(at_hand) if sequence >= first]
    findings = [
        *_end(before, keys, keyed_from, empty=empty),
        *(_wrong(one, "it is not there, and the log has it") for one in cut),
    ]
    yield Seen(there=False, findings=findings)


def verify_some(
    engine: Engine, sequences: Sequence[int], *, keys: Sequence[Key], keyed_from: int = 1
) -> Iterator[Seen]:
    """Check these anchors alone: whether each is the root of what it covers, made with one of `keys`."""
    for sequence in sequences:
        with reading(engine) as connection:
            anchor = anchor_at(connection, sequence)
            leaves = _leaves(connection, [sequence])[sequence]
        if anchor is None:
            yield Seen(there=False, findings=[_wrong(sequence, "it is not there, though it covers jobs")])
        else:
            findings, unproven = _proof(anchor, leaves, keys)
            if _without_key(anchor, keys, keyed_from):
                findings.append(_wrong(sequence, WITHOUT_KEY))
            yield Seen(findings=findings, unproven=unproven)


def first_since(connection: Connection, moment: datetime) -> int:
    """The first anchor that was made since then; behind all of them where none was."""
    found = connection.scalar(select(func.min(anchors.c.sequence)).where(anchors.c.at >= moment))
    return found or (connection.scalar(select(func.max(anchors.c.sequence))) or 0) + 1


def tail(connection: Connection) -> Tail:
    """What stands behind the newest anchor."""
    last = newest(connection)
    above = 0 if last is None else last.up_to
    counted = select(func.count(), func.min(job_events.c.at)).where(job_events.c.position > above)
    events, since = connection.execute(counted).one()
    return Tail(events=events, since=since)


def _before(connection: Connection, first: int) -> Anchor | None:
    """The one to which the first is chained, if it is there."""
    return newest(connection, below=first) if first > 1 else None


def _batch(connection: Connection, above: int) -> list[tuple[Anchor, list[Leaf]]]:
    statement = select(anchors).where(anchors.c.sequence > above).order_by(anchors.c.sequence).limit(BATCH)
    found = [Anchor(**row) for row in connection.execute(statement).mappings()]
    leaves = _leaves(connection, [anchor.sequence for anchor in found])
    return [(anchor, leaves[anchor.sequence]) for anchor in found]


def _leaves(connection: Connection, sequences: Sequence[int]) -> dict[int, list[Leaf]]:
    leaves: dict[int, list[Leaf]] = {sequence: [] for sequence in sequences}
    for row in connection.execute(select(anchored_jobs).where(anchored_jobs.c.anchor.in_(sequences))):
        leaves[row.anchor].append(Leaf(job_id=row.job_id, version=row.version, digest=row.digest))
    return leaves


def _seen(
    before: Anchor | None,
    anchor: Anchor,
    leaves: list[Leaf],
    *,
    keys: Sequence[Key],
    unkeyed: bool,
    logged: frozenset[str] | None,
) -> Seen:
    findings = []
    wanted = 1 if before is None else before.sequence + 1
    if anchor.sequence != wanted:
        findings.append(_wrong(wanted, f"{gone('anchor', wanted, anchor.sequence - 1)} missing"))
    elif (anchor.previous, anchor.above) != (("", 0) if before is None else (before.root, before.up_to)):
        findings.append(_wrong(anchor.sequence, "it does not follow from the anchor before it"))
    if unkeyed:
        findings.append(_wrong(anchor.sequence, WITHOUT_KEY))
    elif not keys and before is not None and before.key_id is not None and anchor.key_id is None:
        findings.append(_wrong(anchor.sequence, "it was made without a key, and the one before it with one"))
    if logged is not None and logged != {anchor.root}:
        findings.append(_wrong(anchor.sequence, "the log has another root for it"))
    proof, unproven = _proof(anchor, leaves, keys)
    return Seen(findings=findings + proof, unproven=unproven)


def _without_key(anchor: Anchor, keys: Sequence[Key], keyed_from: int) -> bool:
    return bool(keys) and anchor.key_id is None and anchor.sequence >= keyed_from


def _proof(anchor: Anchor, leaves: list[Leaf], keys: Sequence[Key]) -> tuple[list[Finding], bool]:
    """What is wrong with its root, and whether that could not be told for want of any key."""
    key = None
    if anchor.key_id is not None:
        if not keys:
            return [], True
        key = find(keys, anchor.key_id)
        if key is None:
            return [_wrong(anchor.sequence, f"it was made with the key {anchor.key_id}, which is none of ours")], False
    if root(anchor, leaves, key) == anchor.root:
        return [], False
    return [_wrong(anchor.sequence, "its root is not that of what it says and covers")], False


def _end(last: Anchor | None, keys: Sequence[Key], keyed_from: int, *, empty: bool) -> Iterator[Finding]:
    """What only the end of the chain shows: somebody without the key may have taken away all that was made with it."""
    if last is None and keys and not empty:
        yield _wrong(1, "there is none, though a key is set here to make them with")
    elif last is not None and keys and last.sequence < keyed_from:
        yield _wrong(keyed_from, "it is not there, and is said to be the first that was made with the key")


def _wrong(sequence: int, said: str) -> Finding:
    return Finding(kind=Wrong.ANCHOR, anchor=sequence, said=said)
