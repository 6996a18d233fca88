"""The module `job-ingest` (spec 06, section 4).

    job-ingest.submit -> unwrap J -> frobnicate -> validate -> id -> batch -> kvs.commit, job-manager.submit -> answer

Rules:
- Jobs get their ids in the order in which their requests have come; one that has to be asked about keeps those
  behind it waiting for theirs.
- What arrives in one pass of the loop is one batch: one transaction, one request to the job manager. There is no
  timer: a lone job goes at once.
- A job is answered when its first events are stored; one that is refused, nothing is left of.
- On rank 0 the job manager stores what is to be stored of a job, with the first events of it.
"""

from __future__ import annotations

import errno
from collections import deque
from functools import lru_cache
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import msgspec

from flux.brokermod import request_handler
from flux.constants import FLUX_NODEID_UPSTREAM
from flux.core.fluid import timestamp
from flux.core.future_state import FutureState
from flux.core.handle import Flux
from flux.future import Future
from flux.job._sign import unwrap
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.job_ingest import checks, settings
from fluxlet.modules.job_ingest.ids import MAX_GENERATOR, Ids
from fluxlet.modules.job_ingest.sending import Sending
from fluxlet.payload import UNREADABLE, read_object
from fluxlet.service import Service
from fluxlet.soon import Soon

if TYPE_CHECKING:
    from flux.job.frobnicator.queue_policy import QueuePolicy
    from fluxlet.modules.job_ingest.worker import Worker

NOVALIDATE, WAITABLE, _FLAGS = 8, 4, 14
_OWNER = 1
_DEFAULT_URGENCY = 16
#: Jobspecs of up to so many bytes are remembered, with what has become of them.
_REMEMBERED = 1 << 16


class SubmitRequest(msgspec.Struct):
    """Payload of job-ingest.submit."""

    J: str
    urgency: int
    flags: int


class Submission(msgspec.Struct, eq=False):
    """A job on its way through the pipeline."""

    msg: Message
    request: SubmitRequest
    jobspec: bytes
    error: OSError | None = None
    ready: bool = False
    id: int = 0
    t_submit: float = 0.0


_decode_request = msgspec.json.Decoder(SubmitRequest).decode
_refusal = "could not unwrap jobspec: Invalid argument"


class JobIngest(Service):
    """See the module. Raises OSError(EINVAL) for a configuration that will not do."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self.workers: dict[str, Worker] = {}
        self._configure(broker.config)
        self.ids: Ids | None = None
        self.line: deque[Submission] = deque()
        self.batch: list[Submission] = []
        self.sendings: set[Sending] = set()
        self._finishing: FutureState | None = None
        self.stats = {"validator": [0, 0], "frobnicator": [0, 0]}  # requests, errors
        self._known_hosts: frozenset[str] | None = None
        # Submitters send the same jobspec again and again.
        self._examine_alike = lru_cache(maxsize=128)(self._examine)
        super().__init__(handle, broker, *args)
        self._soon = Soon(self.module.reactor, self._advance)

    async def start_service(self) -> None:
        """Finds out where our ids begin: behind all that there are. On a rank too high for ids, goes."""
        if self.broker.rank > MAX_GENERATOR:
            self.module.leave()
            return
        if self.broker.rank == 0:
            answer = await self.handle.rpc("job-manager.getinfo")
            begin = timestamp(max(int(answer["max_jobid"]), 0)) + 1
        else:
            answer = await self.handle.rpc("job-ingest.getinfo", nodeid=FLUX_NODEID_UPSTREAM)
            begin = int(answer["timestamp"])
        self.ids = Ids(self.broker.rank, begin, monotonic())
        self._advance()

    async def finish_service(self) -> None:
        """Those whose jobs are on their way to the job manager hear of it before the module ends."""
        self._advance()
        if self.sendings:
            self._finishing = FutureState()
            self._finishing.ctx = self.handle.core
            await Future(self._finishing)

    def stop_service(self) -> None:
        """What has not been sent is refused."""
        self._soon.stop()
        for worker in self.workers.values():
            worker.stop()
        unsent = [submission for sending in self.sendings for submission in sending.batch]
        for submission in (*self.line, *self.batch, *unsent):
            self.handle.respond_error(submission.msg, errno.ENOSYS, "job-ingest is shutting down")

    # Requests.

    @request_handler("submit", allow_guest=True)
    def submit(self, msg: Message) -> None:
        """Payload `{"J": s, "urgency": i, "flags": i}`. Answers `{"id": i}`. Errors: spec 06, 4.1."""
        if self._finishing is not None:
            raise OSError(errno.ENOSYS, "job-ingest is shutting down")
        try:
            request = _decode_request((msg.raw or b"\0")[:-1])
        except UNREADABLE as exc:
            raise OSError(errno.EPROTO, "error decoding job request: Protocol error") from exc
        self._check_request(msg, request)
        try:
            userid, text = unwrap(request.J)
        except ValueError:
            raise OSError(errno.EINVAL, _refusal) from None
        if userid != msg._userid:
            raise OSError(errno.EPERM, f"signer={userid} != requestor={msg._userid}")
        if not msg._rolemask & _OWNER:
            raise OSError(errno.EPERM, "only instance owner can use sign-type=none")
        if userid == 0 and self.broker.owner != 0:
            raise OSError(errno.EPERM, "submission of jobs as user root not supported")
        if len(text) > self.settings.buffer_size:
            size = self.settings.buffer_size
            raise OSError(errno.E2BIG, f"jobspec of {len(text)} bytes is too large: ingest.buffer-size is {size}")
        submission = Submission(msg, request, b"")
        validated = not request.flags & NOVALIDATE
        if self._takes_time:
            from fluxlet.modules.job_ingest.passage import Passage

            jobspec = checks.parse(text)
            self.line.append(submission)
            Passage(self, submission, jobspec, validated).begin()
            return
        examine = self._examine_alike if len(text) <= _REMEMBERED else self._examine
        submission.jobspec = examine(text, validated)
        submission.ready = True
        self.line.append(submission)
        self._soon.ask()

    def _check_request(self, msg: Message, request: SubmitRequest) -> None:
        owner = msg._rolemask & _OWNER
        if request.flags & ~_FLAGS:
            raise OSError(errno.EPROTO, "invalid job flags")
        if not owner and request.flags & NOVALIDATE:
            raise OSError(errno.EPERM, "only the instance owner can submit with FLUX_JOB_NOVALIDATE")
        if not 0 <= request.urgency <= 31:
            raise OSError(errno.EINVAL, "urgency range is [0:31]")
        if not owner and request.urgency > _DEFAULT_URGENCY:
            raise OSError(errno.EINVAL, "only the instance owner can submit with urgency >16")
        if not owner and request.flags & WAITABLE:
            raise OSError(errno.EINVAL, "only the instance owner can submit with FLUX_JOB_WAITABLE")

    @request_handler("getinfo")
    def getinfo(self, msg: Message) -> None:
        """Answers `{"timestamp": milliseconds}`: where the ids of another rank may begin."""
        if self.ids is None:
            raise OSError(errno.EAGAIN, "job-ingest is starting")
        self.handle.respond(msg, {"timestamp": self.ids.timestamp(monotonic())})

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """Answers how much the pipeline has done."""
        pipeline = {
            name: {"running": 0, "requests": count, "errors": bad, "trash": 0, "backlog": 0, "pids": [-1] * 4}
            for name, (count, bad) in self.stats.items()
        }
        self.handle.respond(msg, {"pipeline": pipeline})

    @request_handler("config-reload")
    def config_reload(self, msg: Message) -> None:
        """Payload: the configuration."""
        self._configure(read_object(msg))
        self._examine_alike.cache_clear()
        self.handle.respond(msg)

    # The pipeline.

    def _configure(self, config: dict[str, Any]) -> None:
        """Follows the configuration. Raises OSError(EINVAL)."""
        try:
            self.settings = settings.read(config)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        frobnicators, validators = self.settings.frobnicator.plugins or [], self.settings.validator.plugins or []
        for worker in self.workers.values():
            worker.stop()
        self.workers = {}
        self._foreign = {
            "frobnicator": [name for name in frobnicators if name not in settings.FROBNICATORS],
            "validator": [name for name in validators if name not in settings.VALIDATORS],
        }
        self.asks_scheduler = "feasibility" in validators
        self._policy: QueuePolicy | None = None
        if {"defaults", "constraints"} & set(frobnicators):
            # Not imported by instances without such a policy.
            from flux.job.frobnicator.queue_policy import QueuePolicy

            self._policy = QueuePolicy(config)
        self._takes_time = bool(frobnicators) or self.asks_scheduler or any(self._foreign.values())

    def worker(self, stage: str) -> Worker | None:
        """The process that runs the plugins of users; None: there are none."""
        plugins = self._foreign[stage]
        if not plugins:
            return None
        if stage not in self.workers:
            from fluxlet.modules.job_ingest.worker import Worker

            args = self.settings.validator.args if stage == "validator" else self.settings.frobnicator.args
            self.workers[stage] = Worker(self, stage, plugins, args)
        return self.workers[stage]

    def proceed(self) -> None:
        """A submission has become ready."""
        self._soon.ask()

    def _examine(self, text: bytes, validated: bool) -> bytes:
        """What the job manager is to get of a jobspec. Raises OSError."""
        jobspec = checks.parse(text)
        if validated:
            self.validate(jobspec)
        return checks.redacted(jobspec)

    def frobnicate(self, jobspec: dict[str, Any]) -> None:
        """What our frobnicators make of a jobspec. Raises OSError(EPERM)."""
        plugins = self.settings.frobnicator.plugins
        if not plugins:
            return
        counts = self.stats["frobnicator"]
        counts[0] += 1
        try:
            try:
                checks.validate(jobspec, None)
            except (ValueError, TypeError) as exc:
                raise ValueError(f"invalid jobspec: {exc}") from None
            if self._policy is not None:
                if "defaults" in plugins:
                    self._policy.apply_defaults(jobspec)
                if "constraints" in plugins:
                    self._policy.apply_constraints(jobspec)
        except ValueError as exc:
            counts[1] += 1
            raise OSError(errno.EPERM, str(exc)) from None

    def validate(self, jobspec: dict[str, Any]) -> None:
        """What our validators say of a jobspec. Raises OSError."""
        plugins = self.settings.validator.plugins
        if plugins is None:
            return
        counts = self.stats["validator"]
        counts[0] += 1
        try:
            if "jobspec" in plugins:
                checks.validate(jobspec, self.settings.require_version)
                checks.hosts(jobspec, self._hosts)
                checks.runnable(jobspec)
            if "require-instance" in plugins:
                from flux.job.validator.size_limit import refusal

                bounds = self.settings.require_instance
                text = refusal(jobspec, bounds.minnodes or 0, bounds.mincores)
                if text is not None:
                    raise OSError(errno.EINVAL, text)
        except (ValueError, TypeError) as exc:
            counts[1] += 1
            raise OSError(errno.EPERM, str(exc)) from None
        except OSError:
            counts[1] += 1
            raise

    def _hosts(self) -> frozenset[str]:
        if self._known_hosts is None:
            from flux.hostlist import Hostlist

            self._known_hosts = frozenset(Hostlist(self.broker.attributes.visible.get("hostlist", "")))
        return self._known_hosts

    # Batches.

    def _advance(self) -> None:
        """Gives ids to those that are next in line, and sends the batch."""
        if self.ids is None:
            return
        line = self.line
        while line and line[0].ready:
            submission = line.popleft()
            if submission.error is not None:
                error = submission.error
                self.handle.respond_error(submission.msg, error.errno or errno.EINVAL, error.strerror)
                continue
            submission.id = self.ids.next(monotonic())
            submission.t_submit = time()
            self.batch.append(submission)
        if len(self.batch) >= max(self.settings.batch_count, 1):
            batch, self.batch = self.batch, []
            self._send(batch)

    def _send(self, batch: list[Submission]) -> None:
        sending = Sending(self, batch)
        self.sendings.add(sending)
        sending.begin()

    def sent(self, sending: Sending) -> None:
        """A batch has been answered."""
        self.sendings.discard(sending)
        if self._finishing is not None and not self.sendings:
            self._finishing.fulfil(None)
