"""The watch: nobody does again what the history says is done. It looks at each effect while it is asked for."""

from statemachine.job import Job
from statemachine.store import EventStore
from workers.engines.messages import Enhance, Generate


class Watch:
    """`seen` are the violations. `blind` once a fault excuses repetition: lost files, or two who held one job."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.blind = False
        self.seen: list[str] = []

    def enhances(self, request: Enhance) -> None:
        """The prompt of a run is enhanced once, or said to stay as it is."""
        if {"prompt_enhanced", "enhancement_skipped"} & self._kinds(request.job_id):
            self._report("a prompt is enhanced again")

    def steps(self, request: Generate, step: int) -> None:
        """A step that a checkpoint holds is not done again: a crash costs no more than what came after the last."""
        if not self.blind:
            checkpoint = self._store.load(request.job_id).checkpoint
            if checkpoint is not None and step <= checkpoint.step:
                self._report(f"step {step} is done again, and the checkpoint of step {checkpoint.step} stands")

    def draws(self, request: Generate) -> None:
        """What is drawn is not drawn again, and denoising goes on from the last checkpoint."""
        if self.blind:
            return
        job = self._store.load(request.job_id)
        again = {asset.index for asset in job.current_assets} - set(request.done)
        # The end of a run takes the files of what it had not uploaded; a later run finds out of one at a time.
        if again and "assets_lost" not in self._kinds(request.job_id):
            self._report(f"the finished assets {sorted(again)} are drawn again")
        if job.checkpoint is not None and request.resume_from != job.checkpoint.name:
            self._report(f"steps up to {job.checkpoint.step} are done again: it resumes from {request.resume_from}")

    def fetches(self, job_id: str) -> None:
        """References that the spool holds are not fetched again."""
        if "refs_fetched" in self._kinds(job_id):
            self._report("references are fetched again")

    def uploads(self, job_id: str, key: str) -> None:
        """An upload that is told of is not repeated."""
        if not self.blind and any(asset.key == key for asset in self._store.load(job_id).current_assets):
            self._report(f"{key} is uploaded again")

    def tells(self, job_id: str, callback_id: str) -> None:
        """Nobody tells of a run that has ended, and nobody says `processing` again that was heard to be told."""
        if self.blind:
            return
        job = self._store.load(job_id)
        if job.state.terminal:
            self._report(f"{callback_id} is told of a job that has ended")
        if callback_id.endswith(":processing") and job.told("processing"):
            self._report("processing is told again")

    def _kinds(self, job_id: str) -> set[str]:
        """What has happened in this run."""
        if self.blind:
            return set()
        job: Job = self._store.load(job_id)
        return {row.kind for row in self._store.history(job_id) if row.run == job.run}

    def _report(self, what: str) -> None:
        if not self.blind:
            self.seen.append(what)
