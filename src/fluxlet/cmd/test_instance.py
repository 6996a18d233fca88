"""`flux start --test-size=N`: N brokers on this host, and PMI for them (spec 04, 3.4).

    this process: PMI server, keeps an eye on the brokers, waits for their ends
    |- guardian: cleans up if one of us is killed
    |- broker 0 ... broker N-1

Rules:
- The brokers are forked off this process, which has loaded all they need: a broker is up in milliseconds, and most
  of its memory is shared. With --wrap, and those that are started later, they are programs of their own.
- A broker in a process group of its own hears of no Ctrl-C; rank 0 stays in ours, as it runs the user's program. What
  is sent to this process alone it passes on to rank 0.
- Nothing outlives this process, and this process outlives none of its brokers.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from flux.cli.options import UsageError
from flux.constants import FLUX_POLLIN
from flux.idset import IDset
from flux.reactor import FdEvent, Reactor, Timer
from flux.reactor.events import Event
from fluxlet.broker import rundir
from fluxlet.broker.guardian import Guardian
from fluxlet.broker.options import BrokerOptions
from fluxlet.cmd.environment import front_end, instance_environment
from fluxlet.cmd.leaving import leave
from fluxlet.cmd.start_service import StartService
from fluxlet.overlay.bootstrap.mapping import Mapping as Taskmap
from fluxlet.overlay.bootstrap.pmi_server import Abort, PmiServer
from fluxlet.overlay.bootstrap.pmi_wire import Lines, PmiError, encode

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from fluxlet.broker.broker import Broker
    from fluxlet.broker.options import StartOptions
    from fluxlet.broker.test_options import TestOptions

_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGALRM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
#: Seconds between looks where there are no descriptors for processes.
_INTERVAL = 0.1


def complain(text: str) -> None:
    """A line on stderr."""
    print(f"flux-start: {text}", file=sys.stderr, flush=True)


def process_mapping(clique: str, size: int) -> str | None:
    """PMI_process_mapping for a way of sharing hosts; None: there is none. Raises ValueError.

    Args:
        clique: "single", "per-broker", "none", or a taskmap.
        size: number of brokers.
    """
    if clique == "none":
        return None
    if clique in ("single", "per-broker"):
        return f"(vector,(0,1,{size}))" if clique == "single" else f"(vector,(0,{size},1))"
    mapping = Taskmap.parse_taskmap(clique, size)
    if mapping is None:
        raise ValueError(f"--test-pmi-clique: '{clique}' is not a mapping of {size} brokers")
    blocks = [block[:3] for block in mapping.blocks for _ in range(block[3])]
    return "(vector," + ",".join(f"({first},{nodes},{tasks})" for first, nodes, tasks in blocks) + ")"


class BrokerProcess:
    """A broker: its process, and its end of PMI.

    Args:
        rank: of the broker.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.pid = 0
        self.code: int | None = None
        """Exit code, 128 + its number for a signal; None: it runs, or was not started."""
        self.sock: socket.socket | None = None
        self.lines = Lines()
        self.pmi: FdEvent | None = None
        self.watch: Event | None = None
        self.pidfd = -1
        self.ready = False  # it has found the others

    def hang_up(self) -> None:
        """Ends its PMI connection."""
        if self.pmi is not None:
            self.pmi.stop()
            self.pmi = None
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class TestInstance:
    """The brokers of a test instance.

    Args:
        options, test: what `flux start` was told.
        guardians: an end for this process, then one for each broker.
        directory: the run directory.
    """

    __test__ = False  # pytest: not a test

    def __init__(self, options: StartOptions, test: TestOptions, guardians: list[Guardian], directory: str) -> None:
        self.options = options
        self.test = test
        self.guardian, *self.guardians = guardians
        self.directory = directory
        self.reactor: Reactor | None = None
        self.brokers = [BrokerProcess(rank) for rank in range(test.size)]
        self.server = PmiServer(test.size, {})
        self.deadline: Timer | None = None
        self.service: StartService | None = None
        self._flux = front_end()

    # Starting.

    def words(self, rank: int) -> list[str]:
        """The words of a broker's command line, after `flux broker`."""
        words = [f"-Srundir={self.directory}"]
        if self.test.hosts:
            words.append(f"-Shostname={self.test.hosts[rank]}")
        return [*words, *self.options.broker]

    def command(self, rank: int) -> list[str]:
        """The whole command line of a broker."""
        flux = [self._flux] if self._flux else [sys.executable, "-m", "fluxlet"]
        return [*self.options.wrap, *flux, "broker", *self.words(rank)]

    def environment(self, rank: int, fd: int) -> dict[str, str]:
        """What a broker's environment has besides ours."""
        return {
            "PMI_FD": str(fd),
            "PMI_RANK": str(rank),
            "PMI_SIZE": str(self.test.size),
            "FLUX_START_URI": f"local://{self.directory}/start",
        }

    def start(self, broker: BrokerProcess, fork: bool) -> None:
        """Starts a broker.

        Args:
            fork: as a copy of this process, which has no loop and no thread yet.
        """
        ours, theirs = socket.socketpair()
        broker.sock, broker.code, broker.lines = ours, None, Lines()
        guardian = self.guardians[broker.rank]
        broker.pid = os.fork() if fork else self._spawn(broker, theirs)
        if not broker.pid:
            os.environ.update(self.environment(broker.rank, theirs.fileno()))
            _become(broker, guardian.fd, theirs.fileno())
            for other in (self.guardian, *self.guardians):
                if other is not guardian:
                    other._fd = -1  # closed: see _become
            leave(_broker_main(self.words(broker.rank), guardian, self._flux))
        if broker.rank:
            with suppress(ProcessLookupError, PermissionError):  # it has done so itself
                os.setpgid(broker.pid, broker.pid)
        self.guardian.add_process(broker.pid)
        if fork:
            guardian.let_go()
        theirs.close()

    def _spawn(self, broker: BrokerProcess, theirs: socket.socket) -> int:
        """Starts a broker as a program of its own; its pid."""
        fd = 3 if theirs.fileno() != 3 else 4
        words = self.command(broker.rank)
        return os.posix_spawnp(
            words[0],
            words,
            {**os.environ, **self.environment(broker.rank, fd)},
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), fd)],
            setsigmask=[],
            setsigdef=list(_SIGNALS),
        )

    def watch(self, broker: BrokerProcess) -> None:
        """Has the loop look after a broker that was started."""
        reactor = self.reactor
        assert reactor is not None
        assert broker.sock is not None
        broker.sock.setblocking(False)
        broker.pmi = reactor.fd(broker.sock.fileno(), FLUX_POLLIN, lambda fd, revents: self._on_pmi(broker))
        broker.pmi.start()
        if hasattr(os, "pidfd_open"):
            broker.pidfd = os.pidfd_open(broker.pid)
            broker.watch = reactor.fd(broker.pidfd, FLUX_POLLIN, lambda fd, revents: self._look(broker))
        else:
            broker.watch = reactor.timer(_INTERVAL, _INTERVAL, lambda: self._look(broker))
        broker.watch.start()

    def start_later(self, broker: BrokerProcess) -> None:
        """Starts a broker that does not run; as a program of its own: this process has a loop and a thread by now."""
        self.server.finalized.discard(broker.rank)
        broker.ready = False
        self.start(broker, fork=False)
        self.watch(broker)

    def serve(self, reactor: Reactor) -> Broker:
        """Makes the service `start`; a broker without anything else."""
        from fluxlet.broker.attributes import Attributes
        from fluxlet.broker.broker import Broker

        attributes = Attributes({})
        for name, value in (("rank", "0"), ("size", "1"), ("local-uri", f"local://{self.directory}/start")):
            attributes.set_internal(name, value)
        broker = Broker(attributes, reactor=reactor)

        def make(handle: Flux, broker: Broker) -> StartService:
            self.service = StartService(handle, broker, self)
            return self.service

        broker.load("start", make, internal=True)
        broker.server.listen(f"{self.directory}/start")
        return broker

    # PMI.

    def _on_pmi(self, broker: BrokerProcess) -> None:
        assert broker.sock is not None
        try:
            data = broker.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            broker.hang_up()
            return
        try:
            for line in broker.lines.feed(data):
                self._trace(broker.rank, "C", line)
                for rank, answer in self.server.request(broker.rank, line):
                    self._trace(rank, "S", answer)
                    other = self.brokers[rank]
                    if other.sock is not None:
                        other.sock.setblocking(True)  # it waits for nothing but this
                        other.sock.sendall(encode(answer))
                        other.sock.setblocking(False)
        except Abort as exc:
            complain(f"{broker.rank}: PMI_Abort(): {exc.text}")
            self.kill(signal.SIGKILL)
        except PmiError as exc:
            complain(f"{broker.rank}: PMI: {exc}")
            broker.hang_up()
        except OSError:
            broker.hang_up()  # it has died; its end is about to be seen
        if broker.rank in self.server.finalized:
            broker.ready = True
            broker.hang_up()

    def _trace(self, rank: int, who: str, line: str) -> None:
        if self.options.verbose > 1:
            print(f"{rank}: {who}: {line}", file=sys.stderr, flush=True)

    # Ends.

    def kill(self, signum: int) -> None:
        """Sends a signal to all brokers that run."""
        for broker in self.brokers:
            if broker.pid:
                os.kill(broker.pid, signum)

    def _look(self, broker: BrokerProcess) -> None:
        if not broker.pid or os.waitid(os.P_PID, broker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
        self.guardian.remove_process(broker.pid)
        code = os.waitstatus_to_exitcode(os.waitpid(broker.pid, 0)[1])
        if broker.watch is not None:
            broker.watch.stop()
        if broker.pidfd >= 0:
            os.close(broker.pidfd)
            broker.pidfd = -1
        broker.hang_up()
        if code < 0:
            complain(f"{broker.rank} (pid {broker.pid}) {signal.strsignal(-code)}")
            broker.code = 128 - code
        else:
            broker.code = code
            if code:
                complain(f"{broker.rank} (pid {broker.pid}) exited with rc={code}")
        broker.pid = 0
        if self.service is not None:
            self.service.ended(broker.rank, broker.code)
        self._ended(broker)

    def _ended(self, ended: BrokerProcess) -> None:
        """A broker has ended."""
        reactor = self.reactor
        assert reactor is not None
        if not ended.ready and self.test.size > 1:
            # It has not found the others, so they will not find it: none of them has to wait for that any longer.
            for broker in self.brokers:
                broker.hang_up()
        if not any(broker.pid for broker in self.brokers):
            reactor.stop()
        elif self.deadline is None and (self.test.exit_mode == "any" or ended.rank == 0):
            self.deadline = reactor.timer(self.test.exit_timeout, 0.0, self._late)
            self.deadline.start()

    def _late(self) -> None:
        ranks = IDset([broker.rank for broker in self.brokers if broker.pid])
        complain(f"Exit timeout: killed rank {ranks}")
        self.kill(signal.SIGKILL)

    @property
    def exit_code(self) -> int:
        """That of `flux start`."""
        if self.test.exit_mode == "leader":
            return self.brokers[0].code or 0
        return max(broker.code or 0 for broker in self.brokers)

    def run(self) -> int:
        """Runs the instance to its end; returns the exit code."""
        mapping = process_mapping(self.test.clique, self.test.size)
        if mapping is not None:
            self.server.values["PMI_process_mapping"] = mapping
        first = self.brokers if self.test.start_mode == "all" else self.brokers[:1]
        # From here on signals are the business of a thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        fork = not self.options.wrap
        if fork:
            _warm_up()
        for broker in first:
            self.start(broker, fork)
        self.reactor = Reactor()
        for broker in first:
            self.watch(broker)
        _SignalThread(self.brokers[0]).start()
        service = self.serve(self.reactor)
        self.reactor.run()
        service.shutdown()
        return self.exit_code


class _SignalThread(threading.Thread):
    """Passes signals on to rank 0; but not those of the terminal, which it gets itself."""

    def __init__(self, leader: BrokerProcess) -> None:
        super().__init__(daemon=True)
        self._leader = leader

    def run(self) -> None:
        while True:
            if hasattr(signal, "sigwaitinfo"):
                info = signal.sigwaitinfo(_SIGNALS)
                signum, of_the_kernel = info.si_signo, info.si_code > 0
            else:
                signum, of_the_kernel = signal.sigwait(_SIGNALS), False
            if self._leader.pid and not of_the_kernel:
                with suppress(ProcessLookupError):  # just ended
                    os.kill(self._leader.pid, signum)


def _warm_up() -> None:
    """Loads what a broker needs, once for all of them."""
    from fluxlet.broker.builtins import INTERNAL, LISTED, ONLY_RANK_0, SLEEPING

    gc.disable()
    for name in ("fluxlet.broker.main", "fluxlet.broker.overlay_port", "fluxlet.overlay.zmq"):
        import_module(name)
    import_module("fluxlet.overlay.bootstrap.pmi")
    # But for what one of them will read, if it is asked at all.
    shared = [place for name, place in LISTED.items() if name not in ONLY_RANK_0 or name not in SLEEPING]
    for place in (*INTERNAL.values(), *shared):
        import_module(place.partition(":")[0])
    gc.collect()
    # What is there stays as it is: brokers share the memory as long as nobody writes to it.
    gc.freeze()
    gc.enable()


def _become(broker: BrokerProcess, guardian: int, pmi: int) -> None:
    """The process of a broker, just forked: of ours it keeps its own."""
    start = 3
    for fd in sorted((guardian, pmi)):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, 65536)
    if broker.rank:
        os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _broker_main(words: list[str], guardian: Guardian, flux: str | None) -> int:
    """What a broker's process does; its exit code."""
    gc.disable()  # until its modules are there
    from fluxlet.broker.main import run

    try:
        options = BrokerOptions(words)
    except UsageError as exc:
        print(exc.text, file=sys.stderr)
        return exc.status
    return run(options, guardian, flux)


def _prepare_rundir(test: TestOptions, environ: Mapping[str, str], guardian: Guardian) -> rundir.Directory:
    parent, warning = rundir.default_parent("rundir", environ.get("TMPDIR"))
    if warning and test.rundir is None:
        complain(warning)
    directory = rundir.prepare("rundir", test.rundir, parent, guardian.add_empty)
    if test.rundir is not None:
        # One that the user names stays, unless he says otherwise.
        return rundir.Directory(directory.path, test.cleanup, directory.temporary)
    return directory


def run_test_instance(options: StartOptions, test: TestOptions) -> int:
    """Runs a test instance; returns the exit code of `flux start`."""
    try:
        # An unusable command line is told once, not by every broker.
        BrokerOptions(options.broker)
        process_mapping(test.clique, test.size)
    except UsageError as exc:
        print(exc.text, file=sys.stderr)
        return exc.status
    except ValueError as exc:
        complain(str(exc))
        return 1
    # Now, while the process is small.
    guardians = Guardian.shared(test.size + 1)
    try:
        directory = _prepare_rundir(test, os.environ, guardians[0])
    except rundir.DirectoryError as exc:
        complain(str(exc))
        for guardian in guardians[::-1]:
            guardian.dismiss()
        return 1
    instance = TestInstance(options, test, guardians, directory.path)
    if options.verbose:
        for rank in range(test.size):
            complain(" ".join(instance.command(rank)))
    lock = -1
    try:
        if options.noexec:
            return 0
        if directory.cleanup:
            guardians[0].add_path(os.path.abspath(directory.path))
        if directory.temporary:
            lock = rundir.claim(directory)
        os.environ.update(instance_environment(os.environ))
        return instance.run()
    finally:
        if directory.cleanup:
            rundir.remove_tree(directory.path)
        if lock >= 0:
            os.close(lock)
        for guardian in guardians[::-1]:
            guardian.dismiss()
