"""From an errand to a whole life: a worker's stages without their effects, as fast as they can be told."""

import random
from datetime import timedelta
from typing import Final

from ourvidz.bench.dice import dice_of
from ourvidz.bench.drawing import Drawing
from ourvidz.bench.errands import Errand
from ourvidz.bench.fleet import LOADS
from ourvidz.bench.life import Life
from ourvidz.bench.mishaps import REFUSED, REQUEUED, Break, Mishap, Mishaps, Stumble, Withdrawal, mishaps
from ourvidz.bench.prompts import elaborated
from ourvidz.bench.wishes import arrival
from statemachine import decisions
from statemachine import events as e
from statemachine.states import DEVICE_STAGES, State
from workers.callback import Status, callback_id, outcome_status
from workers.presets import QWEN_7B
from workers.spool import sha256
from workers.storage.keys import asset_key

ANSWER: Final = '{"success":true}'
SKIPPED: Final = 0.04
"""The share of prompts that the enhancer makes nothing of."""


def live(errand: Errand) -> Life:
    """The life of the job from its arrival to its last end, or to where it waits."""
    dice = dice_of(errand.key)
    refused = errand.booking is not None and dice.random() < REFUSED
    life = Life(arrival(errand, dice, refused=refused), turn=errand.turn, at=errand.at)
    if errand.booking is not None:
        met: Mishaps = {} if refused else mishaps(errand, [str(stage) for stage in life.job.stages], dice)
        _Worker(life, errand, met, dice).work()
    return life


class _Worker:
    """Whoever has the job: claims it, runs the stage that is due, meets what befalls it."""

    def __init__(self, life: Life, errand: Errand, met: Mishaps, dice: random.Random) -> None:
        assert errand.booking is not None
        self._life = life
        self._dice = dice
        self._met = met
        self._place, self._other = errand.booking.place, errand.booking.other
        self._begins_at = errand.booking.begins_at
        self._requeued = dice.random() < REQUEUED
        self._loads = [*errand.booking.loads]
        self._drawing = Drawing(self._life, errand, dice)

    def work(self) -> None:
        """Until it has ended for good."""
        stages = {
            State.FETCHING_REFS: self._fetch,
            State.ENHANCING: self._enhance,
            State.GENERATING: self._generate,
            State.UPLOADING: self._upload,
            State.CALLBACK: self._tell,
        }
        while not self._over():
            if self._life.job.worker_id is not None:
                stages[self._life.job.state]()
            elif not self._withdrawn():
                self._claim()

    def _over(self) -> bool:
        if self._life.job.state.terminal and self._requeued:
            self._requeued = False
            self._life.goes_on(self._dice.uniform(600, 6 * 3600))
            self._begins_at = self._life.at
            stage = None if self._dice.random() < 0.7 else State.CALLBACK
            requeue = decisions.requeue(self._life.job, by="ops@ops-1", reason="the receiver asked for it", stage=stage)
            self._life.record(requeue, by=None)
        return self._life.job.state.terminal

    def _withdrawn(self) -> bool:
        if not self._met.get(self._life.job.state) or self._life.job.state is not State.QUEUED:
            return False
        self._life.goes_on(self._dice.uniform(0.5, 3.0))
        self._meet(self._met[State.QUEUED].popleft())
        return True

    def _claim(self) -> None:
        job = self._life.job
        if job.state is State.QUEUED or not job.attempts:
            self._life.at = max(self._life.at, self._begins_at)
        self._life.at = max(self._life.at, job.resume_at or self._life.at)
        self._life.goes_on(self._dice.uniform(0.003, 0.2))
        self._record(
            *decisions.claim(
                job,
                worker=self._place.worker_id,
                host=self._place.host,
                device=self._place.device,
                version=self._place.version,
            )
        )

    def _record(self, *events: e.Event) -> None:
        self._life.record(events, by=self._place.worker_id)

    def _start(self, *, device: str | None = None) -> Mishap | None:
        """Begin the stage; what its attempt is to meet, if anything."""
        self._life.goes_on(self._dice.uniform(0.002, 0.03))
        self._record(*decisions.start(self._life.job, device=device))
        due = self._met.get(self._life.job.state)
        return due.popleft() if due else None

    def _meet(self, mishap: Mishap) -> None:
        job = self._life.job
        match mishap:
            case Stumble():
                self._record(
                    *decisions.trouble(
                        job,
                        error_class=mishap.error_class,
                        error_type=mishap.error_type,
                        message=mishap.message,
                        now=self._life.at,
                        jitter=self._dice.random(),
                    )
                )
            case Break():
                self._life.goes_on(mishap.silent)
                noticed_by = self._place.worker_id if not mishap.silent else "supervisor-1"
                ended = decisions.interrupt(
                    job,
                    reason=mishap.reason,
                    by=noticed_by,
                    now=self._life.at,
                    detail=mishap.detail,
                    counts=mishap.counts,
                )
                self._life.record(ended, by=None if mishap.silent else self._place.worker_id)
                if job.state in DEVICE_STAGES:
                    self._place, self._other = self._other, self._place
                    self._loads = []
            case Withdrawal():
                self._life.record(decisions.cancel(job, by=mishap.by, reason=mishap.reason), by=None)
                if self._life.job.cancel_pending:
                    self._life.goes_on(self._dice.uniform(0.2, 2.0))
                    self._record(*decisions.cancelled(self._life.job))

    def _load(self, wanted: str | None = None) -> None:
        """What the device has to load before it can begin: that model, or all that is left."""
        for model in [name for name in self._loads if wanted in (None, name)]:
            seconds, size = LOADS[model]
            seconds = round(seconds * self._dice.uniform(0.85, 1.3), 3)
            self._life.goes_on(seconds)
            self._record(e.ModelLoaded(model=model, seconds=seconds, bytes=size, digest=sha256(model.encode())))
            self._loads.remove(model)

    def _fetch(self) -> None:
        mishap = self._start()
        self._life.goes_on(30.0 if isinstance(mishap, Stumble) else self._dice.uniform(0.15, 1.6))
        if mishap is not None:
            self._meet(mishap)
            return
        self._record(e.RefsFetched(references=self._drawing.references()))

    def _enhance(self) -> None:
        mishap = self._start(device=self._place.device)
        self._load(QWEN_7B)
        seconds = round(self._dice.uniform(3.0, 9.0), 3)
        self._life.goes_on(seconds)
        if mishap is not None:
            self._meet(mishap)
        elif self._dice.random() < SKIPPED:
            self._record(e.EnhancementSkipped(reason="the answer repeats itself"))
        else:
            text = elaborated(str((self._life.content or {}).get("prompt", "")), self._dice)
            digest, tokens = sha256(text.encode()), len(text) // 4
            self._record(e.PromptEnhanced(digest=digest, seconds=seconds, tokens=tokens, model=QWEN_7B))
            self._life.know(enhanced_prompt=text)

    def _generate(self) -> None:
        if not self._life.job.told("processing"):
            self._record(self._told("processing", None))
        if self._drawing.begin_elsewhere(self._place):
            return
        mishap = self._start(device=self._place.device)
        self._load()
        if mishap is None:
            self._drawing.draw(self._place, 1.0)
            self._record(self._drawing.ended())
        else:
            self._drawing.draw(self._place, self._dice.uniform(0.05, 0.95))
            self._meet(mishap)

    def _upload(self) -> None:
        mishap = self._start()
        job = self._life.job
        bucket = str(job.request["bucket"])
        for asset in job.assets_to_upload:
            self._life.goes_on(self._dice.uniform(0.08, 0.6))
            if mishap is not None:
                self._meet(mishap)
                return
            key = asset_key(job.user_id, job.id, asset.index, str(job.request["extension"]))
            self._record(
                e.AssetUploaded(index=asset.index, bucket=bucket, key=key, digest=asset.digest, bytes=asset.bytes)
            )
        self._record(e.MediaUploaded())

    def _tell(self) -> None:
        mishap = self._start()
        if mishap is not None and not isinstance(mishap, Stumble):
            self._meet(mishap)
            return
        self._record(self._told(outcome_status(self._life.job), mishap))
        if mishap is None:
            self._record(*decisions.finish(self._life.job, now=self._life.at, notified=True))
        else:
            self._meet(mishap)

    def _told(self, status: Status, met: Stumble | None) -> e.CallbackSent:
        """One request to the receiver, which takes its time."""
        job = self._life.job
        silent = met is not None and met.http_code is None
        ms = 30_000.0 if silent else round(self._dice.lognormvariate(4.2, 0.6), 1)
        self._life.at += timedelta(milliseconds=ms)
        return e.CallbackSent(
            status=status,
            id=callback_id(job, status),
            try_=len(job.told(status)) + 1,
            delivered=met is None,
            http_code=200 if met is None else met.http_code,
            ms=ms,
            answer=ANSWER if met is None else None,
            error="no complete answer within 30 s" if silent else None,
        )
