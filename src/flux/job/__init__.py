"""Jobs: submit, wait, watch, cancel, list them (spec 06, section 15; spec 08).

Names that are also those of submodules (`flux.job.JobID` is the class, not the module it is in) are imported at
once, for importing such a submodule would put it in their place. The others load when they are first used.
"""

from __future__ import annotations

from flux.core.lazy import loader
from flux.job.JobID import JobID, id_encode, id_parse
from flux.job.Jobspec import Jobspec, JobspecV1, validate_jobspec
from flux.job.kill import cancel, cancel_async, job_raise, job_raise_async, kill, kill_async
from flux.job.submit import submit, submit_async, submit_get_id
from flux.job.timeleft import timeleft
from flux.job.wait import result, result_async, wait, wait_async, wait_get_status

#: Where the other names of this package are.
_PLACES = {
    "BatchConfig": "flux.job._utils",
    "EventLogEvent": "flux.eventlog",
    "FluxExecutor": "flux.job.executor",
    "FluxExecutorFuture": "flux.job.executor",
    "JobEventWatchFuture": "flux.job.event",
    "JobException": "flux.job.event",
    "JobInfo": "flux.job.info",
    "JobInfoFormat": "flux.job.info",
    "JobKVSLookup": "flux.job.kvslookup",
    "JobList": "flux.job.list",
    "JobWatcher": "flux.job.watcher",
    "JournalConsumer": "flux.job.journal",
    "MAIN_EVENTS": "flux.job.event",
    "event_wait": "flux.job.event",
    "event_watch": "flux.job.event",
    "event_watch_async": "flux.job.event",
    "ffi": "flux.core.inner",
    "get_job": "flux.job.list",
    "job_fields_to_attrs": "flux.job.info",
    "job_info_lookup": "flux.job.kvslookup",
    "job_kvs": "flux.job.kvs",
    "job_kvs_guest": "flux.job.kvs",
    "job_kvs_lookup": "flux.job.kvslookup",
    "job_list": "flux.job.list",
    "job_list_id": "flux.job.list",
    "job_list_inactive": "flux.job.list",
    "job_output": "flux.job.output",
    "output_event_watch": "flux.job.output",
    "output_event_watch_async": "flux.job.output",
    "output_watch": "flux.job.output",
    "output_watch_async": "flux.job.output",
    "output_watch_lines": "flux.job.output",
    "output_watch_lines_async": "flux.job.output",
}

__all__ = [
    "JobID",
    "Jobspec",
    "JobspecV1",
    "cancel",
    "cancel_async",
    "id_encode",
    "id_parse",
    "job_raise",
    "job_raise_async",
    "kill",
    "kill_async",
    "result",
    "result_async",
    "submit",
    "submit_async",
    "submit_get_id",
    "timeleft",
    "validate_jobspec",
    "wait",
    "wait_async",
    "wait_get_status",
    *_PLACES,
]

__getattr__ = loader(globals(), _PLACES)
