"""The life of a broker: what each state does, and what ends it (spec 03, sections 3.4 and 7).

The state machine says where we are; this does what is to be done there and posts the event that ends the state.

Rules:
- The exit code is that of the first failure: initial program, then cleanup, then rc3.
- A terminating signal sends SIGHUP to what runs, as the reference does. A second SIGINT or SIGTERM means it:
  SIGTERM; every further one is SIGKILL (section 17).
- rc1 and rc3 are in this process (`fluxlet.broker.rc`), unless the user's attributes name commands of his own.
- Nothing is taken apart within a handler: in the state unload-builtins the loop is stopped, and its caller ends
  the modules.
"""

from __future__ import annotations

import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from syslog import LOG_CRIT, LOG_ERR, LOG_INFO
from typing import TYPE_CHECKING, Any

from flux.reactor import Timer
from flux.util.durations import parse_fsd
from fluxlet.broker.background import Background
from fluxlet.broker.beside import Beside
from fluxlet.broker.builtins import FIRST
from fluxlet.broker.cleanup import end_jobs
from fluxlet.broker.commands import Commands, rc_scripts
from fluxlet.broker.guardian import Guardian, members
from fluxlet.broker.host import Module
from fluxlet.broker.membership import Membership
from fluxlet.broker.program import Outcome, Program, Run
from fluxlet.broker.rc import Rc
from fluxlet.broker.state import StateMachine, Transition

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from fluxlet.broker.broker import Broker
    from fluxlet.broker.loaded import LoadedModule

TERMINATING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM)
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)

#: What a repeated SIGINT or SIGTERM makes of SIGHUP.
_ESCALATION = (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL)
#: The event that a terminating signal is in states that only wait.
_SIGNAL_EVENTS = {"join": "parent-fail", "config-sync": "sync-fail", "quorum": "quorum-fail"}
#: In these the broker is put together: what is made then stays.
_STARTING = ("load-builtins", "join", "config-sync", "init")
_GOODBYE_TIMEOUT = 60.0
_RC_DEFAULTS = {"rc1": "flux modprobe rc1", "rc3": "flux modprobe rc3"}


class LifeCycle:
    """Takes a broker from its first state to its last.

    Args:
        broker: its `state` is set, its modules are not loaded yet.
        guardian: told of the processes we start.
        program: the initial program; None: none is run.
    """

    def __init__(self, broker: Broker, guardian: Guardian, program: Program | None) -> None:
        assert broker.state is not None
        self.broker = broker
        self.machine: StateMachine = broker.state
        self.guardian = guardian
        self.program = program
        self.exit_code = 0
        self.members = Membership(self)
        """Our part in an instance of several brokers."""
        self.entries: dict[str, deque[str]] = {}
        """Commands to run, by the name of their entry: what `runat.push` is for."""
        self.hold_goodbye: Callable[[], bool] = lambda: False
        """Whether somebody is still to be told that we are going: see the module `shutdown`."""
        self._rc2: Run | None = None
        self._rc2_group = 0
        self._commands = Commands(broker, guardian)
        self._background: Background | None = None
        self._rc: Rc | None = None
        self.plain = False
        """Nothing that a user has set matters to rc1: it may run beside the initial program."""
        self._beside: Beside | None = None
        self._stops = 0
        self._goodbye_timer: Timer | None = None
        self._actions: dict[str, Callable[[], None]] = {
            "join": self.members.join,
            "config-sync": self.members.config_sync,
            "init": self._rc1,
            "quorum": self.members.quorum,
            "run": self._run,
            "cleanup": self._cleanup,
            "shutdown": self._shutdown,
            "finalize": self._rc3,
            "goodbye": self.goodbye,
            "unload-builtins": self._unload,
        }
        self.machine.watch(self._entered)
        broker.on_failure = self._module_failed

    def watch_signals(self) -> None:
        """From now on signals to this process are signals to the instance. Main thread only."""
        for signum in TERMINATING:
            self.broker.reactor.signal(signum, self.signal).start()
        for signum in FORWARDED:
            self.broker.reactor.signal(signum, self._forward).start()

    @property
    def ended(self) -> bool:
        """Modules are to be unloaded: the loop has nothing more to do."""
        return self.machine.state in ("unload-builtins", "exit")

    @property
    def loading(self) -> bool:
        """Our own modules are being loaded beside the initial program."""
        return self._beside is not None and self._beside.running

    def fail(self, code: int = 1) -> None:
        """Something has gone wrong: the first of such codes is the instance's exit code."""
        self.exit_code = self.exit_code or code

    def _entered(self, transition: Transition) -> None:
        if transition.new not in _STARTING and self._beside is None:
            self._put_together()
        action = self._actions.get(transition.new)
        if action is not None and transition.new != transition.old:
            action()

    @staticmethod
    def _put_together() -> None:
        """The modules are there: what is garbage from here on is collected, in processes that have put it off."""
        if not gc.isenabled():
            gc.freeze()
            gc.enable()

    # Commands, and what else takes its time.

    def _rc_line(self, name: str) -> str | None:
        """The command that the user wants for rc1 or rc3, "" for none; None: he wants ours."""
        line = self.broker.attributes.visible.get(f"broker.{name}_path")
        return None if line == _RC_DEFAULTS[name] else line

    def _run_rc(self, name: str, done: Callable[[int], None]) -> None:
        """Loads the modules, or removes them."""
        self._rc = Rc(self.broker, self._handle, os.environ, self._commands.run_flux)
        self._in_background(self._rc.run(name), done)

    @property
    def _handle(self) -> Flux:
        runat = self.broker.modules["runat"]
        assert isinstance(runat, Module)
        return runat.flux

    def _in_background(self, work: Coroutine[Any, Any, int], done: Callable[[int], None]) -> None:
        """Has something done on the loop; a signal ends the waiting for it."""
        self._background = Background(self._handle)
        self._background.run(work, done)

    # The states.

    def _rc1(self) -> None:
        line = self._rc_line("rc1")
        if line is None and self.plain and self.program is not None:
            self._rc = Rc(self.broker, self._handle, os.environ, self._commands.run_flux)
            self._beside = Beside(self.broker, self._handle, self._rc, self._rc1_failed_beside)
            self.machine.post("rc1-success")
        elif line is None:
            self._run_rc("rc1", self._rc1_loaded)
        elif line:
            self._commands.run(self._commands.of("rc1", [line]), self._rc1_done, all_of_them=False)
        else:
            self.machine.post("rc1-none")

    def _rc1_loaded(self, code: int) -> None:
        if code:
            self._rc1_done(code)
        else:
            self._commands.run(rc_scripts("rc1"), self._rc1_done, all_of_them=False)

    def _rc1_done(self, code: int) -> None:
        if not code:
            self.machine.post("rc1-success")
        elif "broker.recovery-mode" in self.broker.attributes.names():
            self.machine.post("rc1-ignorefail")
        else:
            self.fail(self._exit_norestart() or code)
            self.machine.post("rc1-fail")

    def _rc1_failed_beside(self, code: int) -> None:
        self.fail(self._exit_norestart() or code)
        self.panic()

    def _exit_norestart(self) -> int:
        value = self.broker.attributes.visible.get("broker.exit-norestart", "")
        return int(value) if value.isdigit() else 0

    def _rpc(self, topic: str, payload: dict[str, Any], then: Callable[[Any], None]) -> None:
        self._handle.rpc(topic, payload).then(then)

    def _run(self) -> None:
        if self.program is None:
            self.machine.post("rc2-none")
            self.members.running()
            return
        leader = os.getpgrp() == os.getpid()
        own_group = not leader or "broker.rc2_pgrp" in self.broker.attributes.names()
        program, environ = self.program, self._commands.environment()
        if program.interactive:
            program = self._shell_to_type_at(program, environ)
        self._rc2 = Run(
            self.broker.reactor,
            self.guardian,
            "rc2.0",
            program,
            environ,
            self._rc2_done,
            own_group=own_group,
        )
        if not own_group:
            self.guardian.add_members(os.getpgrp(), self.broker.attributes.visible["local-uri"])
        self._rc2.start()
        self._rc2_group = (self._rc2.pid if own_group else os.getpgrp()) if self._rc2 is not None else 0
        if self._beside is not None:
            self._beside.begin()
            self._beside.after(self._put_together)

    def _shell_to_type_at(self, program: Program, environ: dict[str, str]) -> Program:
        """Greets the user; returns the shell as it is to be run, whose environment `environ` is made."""
        from fluxlet.broker.interactive import marked, welcome  # few instances have one

        words, added = marked(program.argv[0], environ)
        environ.update(added)
        recovery = "broker.recovery-mode" in self.broker.attributes.names()
        with suppress(OSError):  # nobody reads it
            os.write(2, (welcome(int(self.broker.attributes.visible["size"]), recovery) + "\n").encode())
        return program._replace(argv=words)

    def _rc2_done(self, outcome: Outcome) -> None:
        self._rc2 = None
        self.broker.log.write(outcome.severity, outcome.text)
        self.fail(outcome.code)
        if self.machine.state == "shutdown":
            self._shutdown()  # a module has failed meanwhile
        else:
            self.machine.post("rc2-fail" if outcome.code else "rc2-success")

    def _cleanup(self) -> None:
        if self._beside is not None and self._beside.after(self._cleanup, enough=True):
            return
        self.members.close_doors()
        lines = self.entries.pop("cleanup", deque())
        has_jobs = "job-manager" in self.broker.modules and "FLUX_DISABLE_JOB_CLEANUP" not in os.environ
        if not lines and not has_jobs:
            self.machine.post("cleanup-none")
            return
        commands = self._commands.of("cleanup", lines)
        if self._stops:
            self._arm_cleanup_timeout()
        self._commands.run(commands, self._clean_up_jobs if has_jobs else self._cleanup_done, all_of_them=True)

    def _clean_up_jobs(self, code: int) -> None:
        self.fail(code)
        self._in_background(end_jobs(self._handle, self.broker.log), self._cleanup_done)

    def _arm_cleanup_timeout(self) -> None:
        text = self.broker.attributes.visible.get("broker.cleanup-timeout", "none")
        if text == "none":
            return
        try:
            seconds = parse_fsd(text)
        except ValueError:
            self.broker.log.write(LOG_ERR, f"broker.cleanup-timeout: '{text}' is no duration")
            return

        def expired() -> None:
            if self.machine.state == "cleanup":
                self.broker.log.write(LOG_ERR, f"cleanup timed out after {text}")
                self._commands.stop(signal.SIGKILL)
                if self._background is not None:
                    self._background.give_up(128 + int(signal.SIGKILL))

        self.broker.reactor.timer(seconds, 0.0, expired).start()

    def _cleanup_done(self, code: int) -> None:
        self.fail(code)
        self.machine.post("cleanup-fail" if code else "cleanup-success")

    def _shutdown(self) -> None:
        self.members.close_doors()
        # After a panic the initial program may still be there.
        if self._rc2 is None and not (self._beside is not None and self._beside.after(self._shutdown, enough=True)):
            self.members.wait_for_children()

    @property
    def busy(self) -> bool:
        """The initial program runs."""
        return self._rc2 is not None

    def _rc3(self) -> None:
        line = self._rc_line("rc3")
        if line is None:
            self._commands.run(rc_scripts("rc3"), self._rc3_unload, all_of_them=True)
        elif line:
            self._commands.run(self._commands.of("rc3", [line]), self._rc3_done, all_of_them=True)
        else:
            self.machine.post("rc3-none")

    def _rc3_unload(self, code: int) -> None:
        self.fail(code)
        self._run_rc("rc3", self._rc3_done)

    def _rc3_done(self, code: int) -> None:
        self.fail(code)
        self.machine.post("rc3-fail" if code else "rc3-success")

    def goodbye(self) -> None:
        """Goes on once nobody is to be waited for any more; to be called again when that may be so."""
        if self.machine.state != "goodbye":
            return
        self.members.say_goodbye()
        if not self.hold_goodbye() and not self.members.parting:
            if self._goodbye_timer is not None:
                self._goodbye_timer.stop()
            self.machine.post("goodbye")
        elif self._goodbye_timer is None:
            self._goodbye_timer = self.broker.reactor.timer(_GOODBYE_TIMEOUT, 0.0, self._goodbye_late)
            self._goodbye_timer.start()

    def _goodbye_late(self) -> None:
        self.broker.log.write(LOG_ERR, f"goodbye timeout after {_GOODBYE_TIMEOUT:.1f}s")
        self.machine.post("goodbye")

    def _unload(self) -> None:
        for module in self.broker.modules.values():
            if not module.internal and module.name not in FIRST:
                self.broker.log.write(LOG_ERR, f"broker module '{module.name}' was not properly shut down")
                self.fail()
        # Before anybody is told of this state: who watches sees the end of the connection instead.
        self.broker.server.shutdown()
        self.broker.reactor.stop()

    # What ends it.

    def stop(self, escalate: bool = False) -> None:
        """The instance is to end: what runs is told so. Has no effect once it is ending."""
        state = self.machine.state
        if state in ("run", "shutdown") and self._rc2 is not None:
            # Only who insists is served with more than a hangup.
            self._stops = min(self._stops + 1, len(_ESCALATION)) if escalate or not self._stops else 1
            self._rc2.stopping = True
            self._rc2.signal(_ESCALATION[self._stops - 1])
        elif state == "run":
            self._stops = self._stops or 1
            self.machine.post("shutdown")

    @property
    def program_pid(self) -> int:
        """The process of the initial program; 0 if it does not run."""
        return self._rc2.pid if self._rc2 is not None else 0

    def request_shutdown(self) -> None:
        """A client ends the instance: as a signal does, but for the exit code (spec 03, 7.7)."""
        self.fail(self._exit_norestart())
        self.stop()

    def signal(self, signum: int) -> None:
        """A terminating signal has come (spec 03, 7.6)."""
        state = self.machine.state
        if state == "run" or (state == "shutdown" and self._rc2 is not None):
            self.broker.log.write(LOG_INFO, f"signal {int(signum)}")
            self.stop(escalate=signum in (signal.SIGINT, signal.SIGTERM))
        elif state in ("init", "cleanup", "finalize") and self._commands.running:
            self._stops = min(self._stops + 1, len(_ESCALATION))
            self._commands.stop(_ESCALATION[self._stops - 1])
        elif self._background is not None and self._background.running:
            self.broker.log.write(LOG_INFO, f"signal {int(signum)}")
            if state == "init" and self._rc is not None and not self._rc.stopping:
                self._rc.stopping = True  # who insists does not wait for the module that takes so long
            else:
                self._background.give_up(128 + int(signal.SIGHUP))
        elif state in _SIGNAL_EVENTS:
            self.fail()
            self.machine.post(_SIGNAL_EVENTS[state])
        else:
            self.broker.log.write(LOG_INFO, f"ignored signal {int(signum)} in {state}")

    def _forward(self, signum: int) -> None:
        """SIGUSR1, SIGUSR2: for all running jobs."""
        if self._beside is not None and self._beside.after(partial(self._forward, signum)):
            return  # who keeps the jobs is about to come

        def answered(future: Any) -> None:
            try:
                count = future.get()["count"]
            except (OSError, KeyError, TypeError):
                self.broker.log.write(LOG_INFO, f"killall failed, delivering signal {int(signum)} locally instead")
                self.signal(signum)
                return
            if count:
                self.broker.log.write(LOG_INFO, f"forwarded signal {int(signum)} to {count} jobs")

        payload = {"dry_run": False, "userid": -1, "signum": int(signum)}
        self._rpc("job-manager.killall", payload, answered)

    def _module_failed(self, module: LoadedModule) -> None:
        value = self.broker.attributes.visible.get("broker.module-nopanic", "0")
        if value == "0":
            self.panic()

    def panic(self) -> None:
        """The instance cannot go on: it ends with exit code 1, without cleanup."""
        self.fail()
        self.machine.post("panic")
        if self._rc2 is not None:
            self.stop()

    def loop_failed(self, text: str) -> None:
        """A callback of the loop has raised: a defect of ours, which ends the instance."""
        for line in text.splitlines():
            self.broker.log.write(LOG_CRIT, line)
        self.panic()

    def end_programs(self) -> None:
        """Everything has ended, or must end now: nothing that we have started is to stay."""
        if self._rc2 is not None:
            self._rc2.signal(signal.SIGKILL)
        self._commands.stop(signal.SIGKILL)
        if not self._rc2_group:
            return
        # What the initial program has left in its group hears of the end of its session, so to say.
        if self._rc2_group != os.getpgrp():
            _kill(os.killpg, self._rc2_group)
        else:
            for pid in members(self._rc2_group, self.broker.attributes.visible["local-uri"]):
                _kill(os.kill, pid)


def _kill(how: Callable[[int, int], None], number: int) -> None:
    try:
        how(number, signal.SIGHUP)
        how(number, signal.SIGCONT)
    except (ProcessLookupError, PermissionError):
        return  # gone, or not ours any more
