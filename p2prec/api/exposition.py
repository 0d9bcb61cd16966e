"""`/metrics`: what happens to a daemon, counted, and its state, as Prometheus reads them.

Imports prometheus_client, 6 MB of resident memory: only a daemon that was asked for metrics imports this module
(docs/decisions/0006-prometheus-client.md).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from p2prec.api.collector import DaemonCollector
from p2prec.api.http_server import Handler, Page
from p2prec.daemon.daemon import Daemon
from p2prec.peer.events import DialFailed, Event, ExchangeDone, ExchangeFailed, NeighbourDown, NeighbourUp, PeerBanned
from p2prec.peer.messages import DeclineReason

ROUND_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""From a desktop to a device with a twentieth of a core; beyond the last, neighbours lose patience."""
EXCHANGE_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From one machine to the deadline of an exchange."""
FAILURES = (*(reason.name.lower() for reason in DeclineReason), "no answer", "connection lost", "not committed")
"""Why exchanges fail. Shown from the start: a rate needs a series that was 0 once."""


class Exposition:
    """Counts one daemon's events. Give it the daemon (`watch`), have its events told to `observe`, and serve `pages`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a timestamp beside every counter, which nothing here reads
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._registry = registry
        self._daemon: Daemon | None = None
        self._round_seconds = Histogram(
            "p2prec_round_duration_seconds",
            "Time for which beginning a round kept the event loop: solve, contribute, offer.",
            buckets=ROUND_BUCKETS_S,
            registry=registry,
        )
        self._exchange_seconds = Histogram(
            "p2prec_exchange_duration_seconds",
            "From the offer until this side moved.",
            ("role",),
            buckets=EXCHANGE_BUCKETS_S,
            registry=registry,
        )
        self._exchanges = Counter(
            "p2prec_exchanges", "Exchanges after which both sides moved.", ("role",), registry=registry
        )
        self._failed = Counter(
            "p2prec_exchanges_failed", "Exchanges that moved nobody.", ("role", "reason"), registry=registry
        )
        self._met = Counter("p2prec_neighbours_met", "Neighbours won.", registry=registry)
        self._lost = Counter("p2prec_neighbours_lost", "Neighbours lost.", registry=registry)
        self._dials_failed = Counter("p2prec_dials_failed", "Connections that could not be made.", registry=registry)
        self._banned = Counter("p2prec_peers_banned", "Neighbours banned for a while.", registry=registry)
        for role in ("initiator", "responder"):
            self._exchanges.labels(role)
            self._exchange_seconds.labels(role)
            for reason in FAILURES:
                self._failed.labels(role, reason)

    @property
    def pages(self) -> dict[str, Handler]:
        return {"/metrics": self.metrics, "/healthz": self.health}

    def watch(self, daemon: Daemon) -> None:
        """Show this daemon's state and time its rounds. Call once."""
        self._daemon = daemon
        daemon.pump.on_round = self._round_seconds.observe
        self._registry.register(DaemonCollector(daemon))

    def observe(self, event: Event) -> None:
        """Count an event."""
        match event:
            case ExchangeDone(_, initiated, seconds):
                self._exchanges.labels(_role(initiated)).inc()
                self._exchange_seconds.labels(_role(initiated)).observe(seconds)
            case ExchangeFailed(_, initiated, reason):
                self._failed.labels(_role(initiated), reason).inc()
            case NeighbourUp():
                self._met.inc()
            case NeighbourDown():
                self._lost.inc()
            case DialFailed():
                self._dials_failed.inc()
            case PeerBanned():
                self._banned.inc()
            case _:
                pass  # the others change what the collector reads

    def metrics(self, accept: str) -> Page:
        """The page, in the text format that the reader prefers."""
        encode, content_type = choose_encoder(accept)
        return Page(content_type, encode(self._registry))

    def health(self, accept: str) -> Page:
        """Answering at all shows that the event loop is alive; the state is for people."""
        state = "starting" if self._daemon is None else self._daemon.state
        return Page("text/plain; charset=utf-8", f"{state}\n".encode())


def _role(initiated: bool) -> str:
    return "initiator" if initiated else "responder"
