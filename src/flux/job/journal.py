"""The journal of all jobs' events (spec 06, 15.10 and 7.2).

    consumer = flux.job.JournalConsumer(h).start()
    while (event := consumer.poll()) is not None:
        print(event.jobid, event.name)

It is for the instance owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flux.abc.journal import JournalConsumerBase, JournalEventBase
from flux.core.handle import Flux
from flux.job.JobID import JobID

__all__ = ["SENTINEL_EVENT", "JournalConsumer", "JournalEvent"]


class JournalEvent(JournalEventBase):
    """An event of a job.

    Args:
        jobid: the job's id; -1 for the sentinel.
        event: as EventLogEvent.
        jobspec, R: what comes with the event.

    Attributes:
        jobid: JobID.
        jobspec: the job's jobspec, if this is its event `submit`.
        R: the job's resources, if this is its event `alloc`.
    """

    def __init__(
        self,
        jobid: int,
        event: dict[str, Any] | str | bytes,
        jobspec: dict[str, Any] | None = None,
        R: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(event)
        self.jobid = JobID(jobid)
        self.jobspec = jobspec if self.get("name") == "submit" else None
        self.R = R if self.get("name") == "alloc" else None

    def is_empty(self) -> bool:
        """True for the sentinel."""
        return self.jobid == -1

    def __str__(self) -> str:
        if self.is_empty():
            return "-1: End of historical data stream"
        words = [f"{self.jobid.f58}: {self.timestamp:.5f} {self.name}"]
        if self.context_string:
            words.append(self.context_string)
        if self.jobspec is not None:
            words.append(f"jobspec={self.jobspec}")
        if self.R is not None:
            words.append(f"R={self.R}")
        return " ".join(words)


#: Comes between the history and what happens now, if that is asked for.
SENTINEL_EVENT = JournalEvent(-1, {})


class JournalConsumer(JournalConsumerBase):
    """Reads the journal of the job manager.

    Args:
        full: inactive jobs' events are part of the history, which comes sorted by time.
        since: leave out events of this time, in seconds since the epoch, and before.
        include_sentinel: SENTINEL_EVENT comes between history and live events.
    """

    SENTINEL_EVENT = SENTINEL_EVENT

    def __init__(
        self, flux_handle: Flux, full: bool = True, since: float = 0.0, include_sentinel: bool = False
    ) -> None:
        super().__init__(
            flux_handle, "job-manager.events-journal", full=full, since=since, include_sentinel=include_sentinel
        )

    @property
    def request_payload(self) -> dict[str, Any]:
        """The payload of the request that opens the stream."""
        return {"full": self.full}

    def is_empty_response(self, resp: dict[str, Any]) -> bool:
        """True for the end of the history."""
        return bool(resp["id"] == -1)

    def process_response(self, resp: dict[str, Any]) -> Mapping[str, Any]:
        """The job that a response is about."""
        return {"jobid": resp["id"], "jobspec": resp.get("jobspec"), "R": resp.get("R")}

    def create_event(  # type: ignore[override]  # by these keywords, and no others
        self, entry: dict[str, Any], jobid: int = -1, jobspec: Any = None, R: Any = None
    ) -> JournalEvent:
        """The event of an entry."""
        return JournalEvent(jobid, entry, jobspec, R)
