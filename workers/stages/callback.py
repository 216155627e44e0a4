"""Callback: tell the receiver what became of the run."""

from statemachine import decisions
from statemachine.events import CallbackSent, Event
from statemachine.job import Asset, Job
from workers.callback import Status, body, callback_id, outcome_status
from workers.errors import GiveUp, Misconfigured, StageEnds, TryAgain
from workers.ports import Answer
from workers.tools import Tools


def run(job: Job, tools: Tools) -> list[Event]:
    """Post the outcome and end the run.

    Run twice, the receiver sees the same id again and the same body, but for the signatures of signed URLs.
    """
    if not tools.settings.callback_configured:
        return decisions.finish(job, now=tools.now(), notified=False)
    status = outcome_status(job)
    sent, answer = tell(tools, status, callback_id(job, status), tools.settings.callback_seconds)
    if answer.delivered:
        return [sent, *decisions.finish(job, now=tools.now(), notified=True)]
    tools.record(sent)
    raise refusal(answer)


def tell(tools: Tools, status: Status, webhook_id: str, at_most: float) -> tuple[CallbackSent, Answer]:
    """Make one request under the lease, within what is left of it. The caller records the event."""
    job = tools.job
    told = body(
        job,
        tools.content,
        status,
        url_of=lambda asset: _where(asset, tools),
    )
    seconds = tools.renew(at_most=at_most)
    answer = tools.receiver.post(webhook_id, told, seconds=seconds)
    sent = CallbackSent(
        status=status,
        id=webhook_id,
        try_=len(job.told(status)) + 1,
        delivered=answer.delivered,
        http_code=answer.http_code,
        ms=answer.ms,
        answer=answer.head,
        error=answer.error,
    )
    return sent, answer


def _where(asset: Asset, tools: Tools) -> str:
    """How the receiver is to know an asset. URLs are made for each request: a signed one runs out, and is a secret."""
    settings, bucket, key = tools.settings, asset.bucket or "", asset.key or ""
    if settings.asset_urls == "path":
        return key
    return tools.bucket.url(
        bucket, key, how=settings.asset_urls, holds=settings.signed_url_seconds, seconds=settings.signing_seconds
    )


def refusal(answer: Answer) -> StageEnds:
    """How an undelivered callback goes on.

    400, and 200 with a no: the real receiver says so also for hiccups of its own, hence five tries.
    401 and 403 are the service's fault and not the job's: the lane pauses. 404, 405 and redirects mean a wrong URL
    or a receiver that is being deployed; they could mean this one job's row as well, so the lane goes on, and the
    whole schedule (18 hours) is there to mend it. 410 and every other 4xx are final.
    """
    code, wait = answer.http_code, answer.retry_after
    match code:
        case _ if answer.error is not None or code is None:
            return TryAgain(f"the callback got no answer: {answer.error}", error_type="NoAnswer", retry_after=wait)
        case 401 | 403:
            return Misconfigured(f"the receiver refuses our credentials ({code})", error_type="CallbackForbidden")
        case 400 | 200:
            said = f"the receiver answered {code} without success"
            return TryAgain(said, error_type="CallbackRefused", retry_after=wait, budget=5)
        case 404 | 405:
            said = f"the receiver answered {code}: is the callback URL right?"
            return TryAgain(said, error_type="CallbackNotFound", retry_after=wait)
        case _ if 300 <= code < 400:
            said = f"the receiver redirects ({code}), and redirects are not followed: is the callback URL right?"
            return TryAgain(said, error_type="CallbackRedirected", retry_after=wait)
        case _ if code in (408, 425, 429) or code >= 500:
            return TryAgain(f"the receiver answered {code}", error_type="CallbackDelayed", retry_after=wait)
        case _ if code < 300:
            said = f"the receiver answered {code}; only 200 says that it has the callback"
            return TryAgain(said, error_type="CallbackRefused", retry_after=wait, budget=5)
        case _:
            return GiveUp(f"the receiver answered {code}", error_type="CallbackRefused")
