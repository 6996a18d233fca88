"""A broker's process, from its options to its exit code (spec 03, sections 1 to 8).

`run` is the whole of it: configuration, attributes, directories, modules, the life cycle, and out again. It is
for the main thread of a process that does nothing else.

Rules:
- Whatever goes wrong before there is a log is one line on stderr and exit code 1.
- What was made is removed on every way out; `_Leftovers` knows what that is, and the guardian knows it too.
- Nothing is written to stdout.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
import time
import uuid
from functools import partial
from syslog import LOG_CRIT, LOG_WARNING
from typing import Any

from flux.conf_builtin import conf_builtin_get
from flux.hostlist import Hostlist
from flux.idset import IDset
from flux.reactor import tls
from flux.util.durations import parse_fsd
from flux.version import CORE_VERSION
from fluxlet.broker import configuration, rundir
from fluxlet.broker.attributes import Attributes
from fluxlet.broker.beside import plain
from fluxlet.broker.broker import Broker
from fluxlet.broker.builtins import load_first
from fluxlet.broker.guardian import Guardian
from fluxlet.broker.host import Module
from fluxlet.broker.lifecycle import LifeCycle
from fluxlet.broker.options import BrokerOptions
from fluxlet.broker.program import Program, initial_program, usable_shell
from fluxlet.broker.state import StateMachine
from fluxlet.broker.watchdog import Watchdog
from fluxlet.modules.overlay import Overlay
from fluxlet.overlay.bootstrap.boot import Boot, BootError, Bootstrap, Local
from fluxlet.overlay.bootstrap.choose import choose

#: Of the instance or job that we were started in; the broker's own environment does without (spec 03, 16).
_NOT_OURS = ("FLUX_URI", "FLUX_KVS_NAMESPACE", "FLUX_JOB_ID_PATH", "FLUX_PROXY_REMOTE")
#: Attributes that are a duration, or `none`.
_DURATIONS = (
    "broker.quorum-warn",
    "broker.shutdown-warn",
    "broker.shutdown-timeout",
    "broker.cleanup-timeout",
    "broker.unload-builtins-timeout",
    "broker.sd-stop-timeout",
)


class StartError(Exception):
    """The broker cannot start; the text says why. `plain`: there is no log yet, not even in form."""

    def __init__(self, text: str, plain: bool = False) -> None:
        super().__init__(text)
        self.plain = plain


def run(options: BrokerOptions, guardian: Guardian, front_end: str | None = None) -> int:
    """Runs a broker until its instance ends; returns the exit code.

    Args:
        options: the command line.
        guardian: forked already.
        front_end: the path of the `flux` command, for `<rundir>/bin/flux`.
    """
    leftovers = _Leftovers(guardian)
    try:
        try:
            broker, life = _assemble(options, guardian, leftovers, front_end)
        except StartError as exc:
            _complain(options, exc)
            return 1
        return _live(broker, life)
    finally:
        leftovers.remove()
        guardian.dismiss()


def _complain(options: BrokerOptions, error: StartError) -> None:
    if error.plain:
        print(f"flux-broker: {error}", file=sys.stderr)
        return
    # The form of a log line; the host's name stands for the rank, which is not known yet.
    where = f"broker.crit[{options.attributes.get('hostname') or socket.gethostname()}]"
    if options.verbose:
        print(f"<{LOG_CRIT}>{where}: {error}", file=sys.stderr)
    else:
        now = time.time()
        stamp = time.strftime("%b %d %H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1e6):06d}"
        print(f"{stamp} {time.strftime('%Z %Y', time.localtime(now))} {where}: {error}", file=sys.stderr)


class _Leftovers:
    """What the broker has made outside of itself, in the order of making."""

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._paths: list[str] = []
        self._locks: list[int] = []

    def add(self, path: str) -> None:
        """A file or directory to remove at the end."""
        self._paths.append(path)
        self._guardian.add_path(os.path.abspath(path))

    def about_to_make(self, path: str) -> None:
        """A directory is being made: nobody else would know, if we ended before `use`."""
        self._guardian.add_empty(path)

    def use(self, directory: rundir.Directory) -> None:
        """A directory that the broker uses."""
        if directory.cleanup:
            self.add(directory.path)
        if directory.temporary:
            self._locks.append(rundir.claim(directory))

    def remove(self) -> None:
        """Removes it all."""
        for path in reversed(self._paths):
            if os.path.isdir(path) and not os.path.islink(path):
                rundir.remove_tree(path)
            elif os.path.lexists(path):
                os.unlink(path)
        for fd in self._locks:
            os.close(fd)


def _assemble(
    options: BrokerOptions, guardian: Guardian, leftovers: _Leftovers, front_end: str | None
) -> tuple[Broker, LifeCycle]:
    """A broker in its first state, with its socket listening and its built-in modules running."""
    settings = options.attributes
    for name in settings:
        try:
            Attributes.check_command_line(name)
        except ValueError as exc:
            raise StartError(str(exc), plain=True) from None
    if options.verbose:
        settings.setdefault("log-stderr-mode", "local")
        settings.setdefault("log-stderr-level", str(min(5 + options.verbose, 7)))
    outside = {name: os.environ.pop(name, None) for name in _NOT_OURS}
    config_path = options.config_path or settings.get("config.path") or os.environ.get("FLUX_CONF_DIR")
    try:
        config = configuration.load(config_path, options.conf)
    except configuration.ConfigError as exc:
        raise StartError(str(exc)) from None
    hostname = settings.get("hostname") or socket.gethostname()
    try:
        method = choose(settings, config, os.environ, hostname)
    except BootError as exc:
        raise StartError(str(exc)) from None
    try:
        return _assemble_rank(options, guardian, leftovers, front_end, method, config, config_path, hostname, outside)
    except BaseException:
        method.abandon()
        raise


def _assemble_rank(
    options: BrokerOptions,
    guardian: Guardian,
    leftovers: _Leftovers,
    front_end: str | None,
    method: Bootstrap,
    config: dict[str, Any],
    config_path: str | None,
    hostname: str,
    outside: dict[str, str | None],
) -> tuple[Broker, LifeCycle]:
    """As `_assemble`, now that the broker knows which rank it is."""
    settings = options.attributes
    warnings: list[str] = []
    _check_settings(settings, warnings, method.size)
    shell, shell_warning = usable_shell(os.environ)
    program = _initial_program(options, shell) if method.rank == 0 else None
    if shell_warning and program is not None:
        warnings.append(shell_warning)
    try:
        socket_path, directories = _directories(settings, leftovers, warnings, method.rank)
    except rundir.DirectoryError as exc:
        raise StartError(str(exc)) from None

    identity = str(uuid.uuid4())
    local = Local(hostname, directories["rundir"] or ".", identity, settings, config, os.environ)
    try:
        boot = method.exchange(local)
    except BootError as exc:
        raise StartError(str(exc)) from None
    attributes = Attributes(settings)
    known: dict[str, str | None] = {
        "version": CORE_VERSION,
        "hostname": hostname,
        "security.owner": str(os.getuid()),
        "local-uri": f"local://{socket_path}",
        **_of_the_parent(method, outside),
        "broker.pid": str(os.getpid()),
        "broker.uuid": identity,
        "broker.starttime": f"{time.time():.2f}",
        **_of_the_tree(method, boot, local),
        **directories,
    }
    for name in ("shell_initrc", "shell_pluginpath"):
        known[f"conf.{name}"] = settings.get(f"conf.{name}") or conf_builtin_get(name)
    if config_path:
        known["config.path"] = config_path
    for name, value in known.items():
        attributes.set_internal(name, value)

    try:
        broker = Broker(attributes, config, child_towards=partial(boot.topology.towards, method.rank))
    except configuration.ConfigError as exc:
        raise StartError(f"{config_path}: {exc}" if config_path else str(exc)) from None
    except ValueError as exc:
        raise StartError(f"Error initializing logging: {exc}") from None
    except OSError as exc:
        raise StartError(f"log-filename: {exc.filename}: {exc.strerror}") from None
    for warning in warnings:
        broker.log.write(LOG_WARNING, warning)
    machine = StateMachine(broker.log.write)
    broker.state = machine
    broker.life = life = LifeCycle(broker, guardian, program)
    life.plain = plain(broker, settings, os.environ)
    try:
        broker.server.listen(socket_path)
    except OSError as exc:
        raise StartError(f"{socket_path}: {exc.strerror}") from None
    if directories["rundir-cleanup"] == "0" or os.path.dirname(socket_path) != directories["rundir"]:
        leftovers.add(socket_path)
    _link_front_end(directories["rundir"] or ".", front_end, leftovers, method.rank)
    _become_broker(method.rank)
    try:
        load_first(broker)
    except OSError as exc:
        raise StartError(exc.strerror or str(exc)) from None
    _connect(broker, life, boot)
    if method.jobid is not None and method.rank == 0:
        from fluxlet.broker.nested import introduce  # only who is a job needs it

        try:
            introduce(attributes.visible)
        except (OSError, ValueError) as exc:
            raise StartError(f"error introducing this instance to its parent: {exc}") from None
    return broker, life


def _of_the_parent(method: Bootstrap, outside: dict[str, str | None]) -> dict[str, str | None]:
    """The attributes about the instance that this one is a job of (spec 04, section 6). Raises StartError."""
    known: dict[str, str | None] = {"parent-uri": None, "instance-level": method.level, "jobid-path": "/"}
    if method.jobid is not None:
        if outside["FLUX_URI"] is None:
            raise StartError("FLUX_URI is not set: the launcher is a job of an instance that cannot be found")
        known["parent-uri"] = outside["FLUX_URI"]
        known["jobid"] = method.jobid
        known["jobid-path"] = outside["FLUX_JOB_ID_PATH"] or "/"
        if outside["FLUX_KVS_NAMESPACE"] is not None:
            known["parent-kvs-namespace"] = outside["FLUX_KVS_NAMESPACE"]
    return known


def _of_the_tree(method: Bootstrap, boot: Boot, local: Local) -> dict[str, str | None]:
    """The attributes about the place of a broker among the others (spec 04, 1.2). Raises StartError."""
    rank, size, topology = method.rank, method.size, boot.topology
    settings = local.attributes
    critical = settings.get("broker.critical-ranks")
    if critical is not None:
        _check_ranks(critical, size)
    quorum = settings.get("broker.quorum")
    known = {
        "rank": str(rank),
        "size": str(size),
        "hostlist": settings.get("hostlist") or str(Hostlist(boot.hosts)),
        "broker.boot-method": method.method,
        "broker.mapping": boot.mapping,
        "broker.critical-ranks": critical or str(IDset(list(topology.interior()))),
        "broker.quorum": quorum or str(size),
        "tbon.topo": topology.uri,
        "tbon.level": str(topology.level(rank)),
        "tbon.maxlevel": str(topology.max_level),
        "tbon.descendants": str(topology.subtree_size(rank) - 1),
        "tbon.interface-hint": local.interface_hint(boot.interface_hint),
    }
    if boot.endpoint is not None:
        known["tbon.endpoint"] = boot.endpoint
    if boot.parent_endpoint is not None:
        known["tbon.parent-endpoint"] = boot.parent_endpoint
    return known


def _check_ranks(text: str, size: int) -> None:
    """Raises StartError for critical ranks that there are not."""
    try:
        ranks = IDset(text)
    except ValueError:
        ranks = IDset()
    if not ranks or ranks.last() >= size:
        raise StartError(f"invalid value for broker.critical-ranks='{text}'")


def _connect(broker: Broker, life: LifeCycle, boot: Boot) -> None:
    """Joins the broker's parts with the sockets of its neighbours."""
    if boot.transport is not None:
        from fluxlet.broker.overlay_port import OverlayPort  # who is alone does not need it

        module = broker.modules["overlay"]
        assert isinstance(module, Module)
        assert isinstance(module.instance, Overlay)
        module.instance.grow(boot.topology)
        port = OverlayPort(broker, module.instance, boot.transport, boot, life.members)
        life.members.port = port


def _check_settings(settings: dict[str, str | None], warnings: list[str], size: int) -> None:
    """The user's values of attributes that mean something to the life cycle. Raises StartError."""
    for name in _DURATIONS:
        text = settings.get(name)
        if text is not None and text != "none":
            try:
                parse_fsd(text)
            except ValueError:
                raise StartError(f"Error parsing {name} attribute") from None
    quorum = settings.get("broker.quorum")
    if quorum in ("0", f"0-{size - 1}"):
        # It was a set of ranks once.
        assumed = 1 if quorum == "0" else size
        warnings.append(f"warning: broker.quorum is now a size - assuming {assumed}")
        settings["broker.quorum"] = str(assumed)
    elif quorum is not None and not (quorum.isascii() and quorum.isdigit() and 0 < int(quorum) <= size):
        raise StartError("Error parsing broker.quorum attribute")


def _initial_program(options: BrokerOptions, shell: str) -> Program | None:
    """What runs in the instance; None for nothing. Raises StartError."""
    if "broker.rc2_none" in options.attributes:
        return None
    program = initial_program(options.command, shell)
    if program.interactive and not os.isatty(0):
        raise StartError("stdin is not a tty - can't run interactive shell")
    return program


def _directories(
    settings: dict[str, str | None], leftovers: _Leftovers, warnings: list[str], rank: int
) -> tuple[str, dict[str, str | None]]:
    """Makes rundir and statedir; returns the path of the socket and the attributes about them."""
    attributes: dict[str, str | None] = {}
    cleaned = set()
    for name in ("rundir", "statedir"):
        given = settings.get(name)
        if rank and given is None and name == "statedir":
            continue  # what lasts is kept by rank 0
        parent, warning = rundir.default_parent(name, os.environ.get("TMPDIR"))
        if given is None:
            if warning:
                warnings.append(warning)
            if parent not in cleaned:
                cleaned.add(parent)
                rundir.remove_stale(parent)
        directory = rundir.prepare(name, given, parent, leftovers.about_to_make)
        wish = settings.get(f"{name}-cleanup")
        if wish is not None:
            directory = rundir.Directory(directory.path, wish == "1", directory.temporary)
        leftovers.use(directory)
        attributes[name] = directory.path
        attributes[f"{name}-cleanup"] = "1" if directory.cleanup else "0"
    return rundir.socket_path(settings.get("local-uri"), attributes["rundir"] or ".", rank), attributes


def _link_front_end(directory: str, front_end: str | None, leftovers: _Leftovers, rank: int) -> None:
    """Makes DIRECTORY/bin/flux: what a remote client that knows only the socket's place runs."""
    bin_directory = os.path.join(directory, "bin")
    link = os.path.join(bin_directory, "flux")
    try:
        try:
            os.mkdir(bin_directory, 0o700)
            leftovers.add(bin_directory)
        except FileExistsError:
            if rank:
                return  # the ranks of a host may share the directory: one of them is enough
        new = f"{link}.{os.getpid()}"  # in one step: other ranks may do the same
        if front_end is not None:
            os.symlink(front_end, new)
        else:
            # Run as `python -m fluxlet`, from a place without a console script.
            source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            with open(new, "w", encoding="utf-8") as file:
                file.write(
                    f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {source!r})\n"
                    "from fluxlet.cmd.driver import main\nsys.exit(main())\n"
                )
            os.chmod(new, 0o700)
        os.replace(new, link)
    except OSError as exc:
        raise StartError(f"rundir error creating {link}: {exc.strerror}") from None


def _become_broker(rank: int) -> None:
    """What a broker's process is like: its name, and as many descriptors as the system lets it have."""
    try:
        with open("/proc/self/comm", "w", encoding="utf-8") as comm:
            comm.write(f"flux-broker-{rank}")
    except OSError:
        pass  # decoration, and Linux only
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return  # macOS refuses what it calls unlimited: the soft limit stays


def _live(broker: Broker, life: LifeCycle) -> int:
    """From the first state to the last; returns the exit code."""
    assert broker.state is not None
    life.watch_signals()
    watchdog = Watchdog(broker, threading.get_ident())
    failures = 0
    try:
        broker.state.post("builtins-success")
        while not life.ended and failures < 2:
            broker.reactor.run()
            if tls.exception is not None:
                import traceback  # for what should not happen

                failures += 1
                exc, tls.exception = tls.exception, None
                life.loop_failed("".join(traceback.format_exception(exc)))
        broker.shutdown()
        if life.members.port is not None:
            life.members.port.close()
        broker.state.post("builtins-done")
        broker.log.close()
    finally:
        watchdog.stop()
        life.end_programs()
    return life.exit_code
