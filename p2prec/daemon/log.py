"""One readable line per event, or one JSON object for machines."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from dataclasses import asdict
from typing import Any, TextIO

from p2prec.peer.events import (
    BudgetSpent,
    Contributed,
    DialFailed,
    Event,
    ExchangeDone,
    ExchangeFailed,
    IdentityConflict,
    IdentityConflictOver,
    LedgerFailed,
    MessageRefused,
    ModelRestarted,
    NeighbourDown,
    NeighbourUp,
    PeerBanned,
    PeerSighted,
)
from p2prec.types import PeerId

logger = logging.getLogger("p2prec")


def short(peer_id: PeerId) -> str:
    """A peer id as people can compare it: its last eight characters (all begin alike)."""
    return f"…{peer_id[-8:]}"


def describe(event: Event) -> tuple[int, str]:
    """(logging level, one line) of an event. Exchanges are routine and show with --verbose only."""
    match event:
        case PeerSighted(peer_id, host, port, source):
            return logging.INFO, f"found peer {short(peer_id)} at {host}:{port} ({source})"
        case NeighbourUp(peer_id, host, outbound, neighbours):
            return logging.INFO, (
                f"connected {'to' if outbound else 'from'} {short(peer_id)} at {host}: {count(neighbours, 'neighbour')}"
            )
        case NeighbourDown(peer_id, reason, neighbours):
            return logging.INFO, f"parted from {short(peer_id)} ({reason}): {count(neighbours, 'neighbour')}"
        case DialFailed(host, port, reason, retry_s):
            return logging.DEBUG, f"could not reach {host}:{port} ({reason}); next try in {retry_s:.0f} s"
        case ExchangeDone(peer_id, initiated, seconds):
            who = "with" if initiated else "by"
            return logging.DEBUG, f"exchange {who} {short(peer_id)} done in {seconds * 1000:.0f} ms"
        case ExchangeFailed(peer_id, _, reason):
            return logging.DEBUG, f"no exchange with {short(peer_id)}: {reason}"
        case Contributed(number, spent, delta):
            return logging.INFO, f"contribution {number}: {epsilon_text(spent, delta)}"
        case BudgetSpent(spent, budget):
            return logging.WARNING, (
                f"the privacy budget is spent (epsilon {spent:.3g}; one more would exceed {budget:.3g}): "
                "this peer goes on learning from others and contributes nothing more"
            )
        case LedgerFailed(reason):
            return logging.ERROR, f"nothing was contributed, since the privacy ledger could not be written: {reason}"
        case ModelRestarted():
            return logging.WARNING, "the model's numbers broke; this peer learns it again from the others"
        case MessageRefused(peer_id, _, detail):
            return logging.WARNING, f"refused a message of {short(peer_id)}: {detail}"
        case PeerBanned(peer_id, seconds):
            return logging.WARNING, f"no more connections with {short(peer_id)} for {seconds / 60:.0f} minutes"
        case IdentityConflict(host, proven):
            if not proven:
                return logging.WARNING, f"a neighbour says: {host}"
            return logging.ERROR, (
                f"this identity is also running at {host}: a state directory was copied. Exchanges are stopped. "
                "Run 'p2prec identity renew' on one of the two machines"
            )
        case IdentityConflictOver():
            return logging.INFO, "this identity no longer runs elsewhere: exchanges go on"


def count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def epsilon_text(epsilon: float, delta: float) -> str:
    """Privacy spent, in words: large figures are no promise at all, and are called that."""
    if math.isinf(epsilon):
        return "clipped, but without noise (this swarm asks for none), so without formal privacy"
    weak = ", no meaningful formal guarantee" if epsilon > 20 else ""
    return f"epsilon spent so far {epsilon:,.3g} (delta {delta:g}{weak})"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (seconds since 1970), level, message, and for events their name and fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {"time": round(record.created, 3), "level": record.levelname.lower()}
        event = getattr(record, "event", None)
        if event is not None:
            entry |= {"event": type(event).__name__, **_plain(asdict(event))}
        entry["message"] = record.getMessage()
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}


class TextFormatter(logging.Formatter):
    """Local time, the level where it is not routine, and the line."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        line = f"{stamp} {level}{record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(log_format: str, *, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Log to stderr, as a daemon under a supervisor should. log_format: "text" or "json"."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def log_event(event: Event) -> None:
    level, line = describe(event)
    logger.log(level, "%s", line, extra={"event": event})
