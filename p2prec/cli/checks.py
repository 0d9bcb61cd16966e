"""What `p2prec doctor` looks at, one function a subject. Each returns findings and changes nothing on the device."""

from __future__ import annotations

import importlib.util
import os
import socket
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from p2prec.config import TransportKind
from p2prec.errors import P2PRecError, UsageError

if TYPE_CHECKING:
    from p2prec.storage.state import StateDirectory

Level = Literal["ok", "warn", "fail"]

LOW_DISK_BYTES = 512 << 20
EARLIEST_PLAUSIBLE_TIME = 1_735_689_600.0
"""2025-01-01: a clock before this program was written is wrong."""
LATEST_PLAUSIBLE_TIME = 4_102_444_800.0
"""2100-01-01."""
CLOCK_JUMP_S = 0.5
"""How far the wall clock may stray from the steady one while the doctor looks."""
FUTURE_ROW_S = 86_400.0
CONNECT_DEADLINE_S = 3.0
STATUS_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """The subject, one word."""
    level: Level
    message: str
    remedy: str = ""
    """What to do, one line; empty when nothing need be done."""


def software() -> list[Finding]:
    """Python, OpenSSL with TLS 1.3, Ed25519."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    versions = f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}"
    upgrade = "use a Python of python.org or your distribution, linked with OpenSSL 1.1.1 or later"
    if not ssl.HAS_TLSv1_3:
        return [Finding("software", "fail", f"{versions}: no TLS 1.3", upgrade)]
    try:
        Ed25519PrivateKey.generate().sign(b"p2prec")
    except UnsupportedAlgorithm:
        return [Finding("software", "fail", f"{versions}: no Ed25519 signatures", upgrade)]
    return [Finding("software", "ok", f"{versions}, TLS 1.3, Ed25519")]


def disk(directory: StateDirectory) -> list[Finding]:
    """The state directory: there, ours, private, and with room on its disk."""
    from p2prec.storage.state import MIN_FREE_BYTES

    path = directory.path
    if not path.exists():
        parent = next(folder for folder in path.parents if folder.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return [Finding("disk", "ok", f"{path} is made at the first start")]
        return [Finding("disk", "fail", f"{path} cannot be made", f"give yourself access to {parent}, or use --state")]
    if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return [Finding("disk", "fail", f"{path} cannot be written", f"chown {os.getuid()} {path} && chmod 700 {path}")]
    free = directory.free_bytes()
    room = f"{free / 2**30:.1f} GiB are free for {path}"
    make_room = "free some space, or use a --state directory on another disk"
    if free < MIN_FREE_BYTES:
        return [Finding("disk", "fail", f"{room}; the daemon wants {MIN_FREE_BYTES >> 20} MiB", make_room)]
    return [
        Finding("disk", "warn" if free < LOW_DISK_BYTES else "ok", room, make_room if free < LOW_DISK_BYTES else "")
    ]


def keys(directory: StateDirectory) -> list[Finding]:
    """Who may read what only this peer may know."""
    findings = []
    if directory.path.is_dir() and (mode := stat.S_IMODE(directory.path.stat().st_mode)) & 0o077:
        findings.append(
            Finding("keys", "warn", f"other users may look into {directory.path}", f"chmod 700 {directory.path}")
        )
    for path in (directory.store_path, directory.lock_path):
        if path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            findings.append(
                Finding("keys", "warn", f"other users may read {path} (mode {mode:o})", f"chmod 600 {path}")
            )
    if not directory.identity_path.exists():
        return [*findings, Finding("keys", "ok", "the identity is made at the first start")]
    return findings + _attempt("keys", lambda: f"identity {directory.identity().peer_id}, readable by you alone")


def swarm(directory: StateDirectory) -> list[Finding]:
    """The manifest and, in a private swarm, the membership secret."""
    if not directory.has_swarm():
        return [Finding("swarm", "warn", "no swarm has been joined yet", "p2prec swarm join FILE")]

    def look() -> str:
        manifest = directory.swarm()
        manifest.catalogue_csv()
        kind = "private" if directory.membership_secret() is not None else "open"
        return f"{manifest.name}, {kind}, {manifest.catalogue.n_items:,} items"

    return _attempt("swarm", look)


def store(directory: StateDirectory) -> list[Finding]:
    """The store: whole, and without rows from the future (which would stay the most recent for ever)."""
    if not directory.store_path.exists():
        return [Finding("store", "ok", "made at the first start")]
    latest = 0.0

    def look() -> str:
        nonlocal latest
        with directory.open_store(verify=True) as opened:
            times = [interaction.time for interaction in opened.interactions()]
        latest = max(times, default=0.0)
        return f"{directory.store_path.stat().st_size / 2**20:.1f} MiB, undamaged, {len(times):,} interactions"

    findings = _attempt("store", look)
    if latest > time.time() + FUTURE_ROW_S:
        day = time.strftime("%Y-%m-%d", time.gmtime(min(latest, 253402300799)))
        findings.append(
            Finding(
                "store",
                "warn",
                f"an interaction is dated {day}, which is still to come",
                "set the clock if it is behind; else forget that item (p2prec forget ITEM) and log it again",
            )
        )
    return findings


def daemon(directory: StateDirectory) -> tuple[list[Finding], dict[str, Any] | None]:
    """Whether it runs and answers; also its status, if it does."""
    from p2prec.api.client import call

    pid = directory.daemon_pid()
    if pid is None:
        return [Finding("daemon", "ok", "not running", "p2prec start")], None
    who = f"process {pid}" if pid else "a process that cannot be told"
    try:
        status = call(directory.control_socket_path, "status", deadline_s=STATUS_DEADLINE_S)
    except P2PRecError as error:
        return [
            Finding(
                "daemon",
                "fail",
                f"{who} runs but does not answer: {error}",
                "see its log; if it hangs, stop it and start again",
            )
        ], None
    warnings = [Finding("daemon", "warn", str(warning), "see p2prec status") for warning in status["warnings"]]
    neighbours, seen = status["neighbours"], status["peers_seen"]
    finding = Finding("daemon", "ok", f"{who}, {status['state']}, {neighbours} neighbours, {seen} peers seen")
    return [finding, *warnings], status


def port(listen: tuple[str, int], status: dict[str, Any] | None) -> list[Finding]:
    """The address on which peers are accepted: reachable when the daemon runs, free to bind when not."""
    if status is not None and status["listen"]:
        return _own_port(str(status["listen"]))
    host, number = listen
    shown = f"{host}:{number}"
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, number))
    except OSError as error:
        reason = error.strerror or error
        return [
            Finding(
                "port",
                "fail",
                f"{shown} cannot be bound: {reason}",
                "listen elsewhere: p2prec start --listen HOST:PORT",
            )
        ]
    return [Finding("port", "ok", f"{shown} can be bound" if number else f"a free port can be bound on {host}")]


def _own_port(listen: str) -> list[Finding]:
    host, _, number = listen.rpartition(":")
    host = host.strip("[]")
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        socket.create_connection((target, int(number)), timeout=CONNECT_DEADLINE_S).close()
    except OSError as error:
        reason = error.strerror or error
        return [Finding("port", "fail", f"the daemon's {listen} refuses connections: {reason}", "restart the daemon")]
    return [Finding("port", "ok", f"the daemon accepts peers on {listen}")]


def transport(kind: TransportKind, status: dict[str, Any] | None) -> list[Finding]:
    """Whether what this peer is to speak is installed. Of peers that speak something else the daemon's own warnings tell."""
    if status is not None and status["transport"]:
        return [Finding("transport", "ok", f"the daemon speaks {status['transport']}, and meets those that do")]
    if kind is TransportKind.LIBP2P and importlib.util.find_spec("libp2p") is None:
        return [Finding("transport", "fail", "libp2p is not installed", "pip install 'p2prec[libp2p]'")]
    return [Finding("transport", "ok", f"{kind} is installed")]


def multicast(hears: Callable[[str], bool] | None = None) -> list[Finding]:
    """Whether mDNS packets get out of this machine's interfaces and back in."""
    from p2prec.discovery.addresses import local_interfaces, multicast_addresses
    from p2prec.discovery.probe import hears_itself

    name_a_peer = "peers can still be named: p2prec start --peer HOST:PORT"
    addresses = multicast_addresses(local_interfaces(), None)
    if not addresses:
        return [Finding("multicast", "fail", "no network interface is up", "connect to a network")]
    heard, findings = [], []
    for address in addresses:
        try:
            if (hears or hears_itself)(address):
                heard.append(address)
                continue
            problem, remedy = "not heard", f"allow UDP port 5353 in the firewall; {name_a_peer}"
        except OSError as error:
            problem, remedy = str(error.strerror or error), f"see which program holds UDP port 5353; {name_a_peer}"
        findings.append(Finding("multicast", "warn", f"{address}: {problem}", remedy))
    if not heard:
        return [Finding(one.check, "fail", one.message, one.remedy) for one in findings]
    return [Finding("multicast", "ok", f"heard on {', '.join(heard)}"), *findings]


class Clock:
    """Looks at the clock twice: `look` when the doctor starts, `findings` when it ends."""

    def __init__(self) -> None:
        self._wall, self._steady = time.time(), time.monotonic()

    def findings(self) -> list[Finding]:
        wall = time.time()
        shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(wall))
        synchronize = "let the system keep it: timedatectl set-ntp true"
        if not EARLIEST_PLAUSIBLE_TIME <= wall <= LATEST_PLAUSIBLE_TIME:
            return [Finding("clock", "fail", f"it says {shown}, which cannot be", synchronize)]
        jump = (wall - self._wall) - (time.monotonic() - self._steady)
        if abs(jump) > CLOCK_JUMP_S:
            return [Finding("clock", "warn", f"it jumped by {jump:+.1f} s just now", synchronize)]
        return [Finding("clock", "ok", shown)]


def examine(
    directory: StateDirectory, listen: tuple[str, int], kind: TransportKind = TransportKind.TLS
) -> list[Finding]:
    """Everything, in the order in which a person would mend it."""
    clock = Clock()
    findings = [*software(), *disk(directory)]
    if directory.path.is_dir() and not _failed(findings):
        findings += [*keys(directory), *swarm(directory), *store(directory)]
    about_daemon, status = daemon(directory)
    reachable = [*port(listen, status), *transport(kind, status), *multicast()]
    return [*findings, *about_daemon, *reachable, *clock.findings()]


def _failed(findings: Iterable[Finding]) -> bool:
    return any(finding.level == "fail" for finding in findings)


def _attempt(check: str, look: Callable[[], str]) -> list[Finding]:
    """The finding of something that raises when it is not in order."""
    try:
        return [Finding(check, "ok", look())]
    except UsageError as error:
        return [Finding(check, "fail", str(error), error.remedy or "see p2prec --help")]
    except P2PRecError as error:
        message, _, remedy = str(error).partition(". ")
        return [Finding(check, "fail", message, remedy or "restore it from a backup, or move it away and start again")]
