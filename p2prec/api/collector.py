"""What Prometheus is told of a daemon's state, read when it asks. Names, units and labels: docs/reference-metrics.md.

Nothing here may carry a peer or user id, an item or an address: the page leaves the device when its owner lets a monitor read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

import p2prec
from p2prec.daemon.daemon import Daemon
from p2prec.peer.messages import Refusal
from p2prec.peer.quality import Quality

STATES = ("running", "searching", "conflict")
"""As `status` has them: with neighbours; with none; stopped because the same identity runs elsewhere."""
WARNINGS = ("discovery", "identity", "ledger", "restored", "budget", "history", "quality", "store", "sums")
"""Kinds of trouble that a daemon knows; all are shown, so that an alert sees a series before the trouble."""


class DaemonCollector(Collector):
    """Reads one daemon. Call it on the daemon's event loop only."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def collect(self) -> Iterable[Metric]:
        """All families, in the order of docs/reference-metrics.md. Takes about a millisecond."""
        daemon = self._daemon
        yield from _swarm(daemon)
        yield from _learning(daemon)
        yield from _privacy(daemon)
        yield from _quality(daemon.quality)
        yield from _traffic(daemon)
        yield from _trouble(daemon)


def _swarm(daemon: Daemon) -> Iterator[Metric]:
    peer, manifest = daemon.peer, daemon.manifest
    yield InfoMetricFamily(
        "p2prec",
        "Version of this peer, what it speaks, and the swarm that it learns in.",
        {
            "version": p2prec.__version__,
            "transport": daemon.settings.transport,
            "swarm": manifest.name,
            "swarm_id": manifest.swarm_id.hex(),
        },
    )
    state = daemon.state
    yield _labelled(
        "p2prec_state", "1 for the state that the peer is in.", "state", {name: name == state for name in STATES}
    )
    yield GaugeMetricFamily("p2prec_neighbours", "Peers that this one is connected with.", len(peer.neighbours))
    yield GaugeMetricFamily("p2prec_known_peers", "Peers in the address book.", len(peer.book.peers))
    yield CounterMetricFamily("p2prec_peers_seen", "Distinct peers ever heard of.", peer.book.peers_seen)


def _learning(daemon: Daemon) -> Iterator[Metric]:
    peer = daemon.peer
    yield CounterMetricFamily("p2prec_rounds", "Rounds begun.", peer.rounds)
    yield GaugeMetricFamily(
        "p2prec_model_age_rounds", "Rounds of training behind the model.", float(daemon.learner.age)
    )
    yield GaugeMetricFamily("p2prec_interactions", "Interactions logged on this device.", daemon.history.count)
    yield GaugeMetricFamily("p2prec_catalogue_items", "Items of the swarm.", daemon.manifest.catalogue.n_items)
    yield GaugeMetricFamily(
        "p2prec_exchanges_in_doubt", "Answered exchanges whose commit has not arrived.", peer.in_doubt
    )


def _privacy(daemon: Daemon) -> Iterator[Metric]:
    privacy, promise = daemon.manifest.privacy, daemon.manifest.promise
    budget, delta = (privacy.epsilon_budget, privacy.delta) if promise is None else (promise.epsilon, promise.delta)
    yield CounterMetricFamily(
        "p2prec_contributions",
        "Contributions of this identity to this swarm, earlier runs included.",
        daemon.peer.contributions,
    )
    yield GaugeMetricFamily(
        "p2prec_privacy_epsilon_spent", "Epsilon spent so far; infinite without noise.", daemon.ledger.epsilon_spent
    )
    if budget is not None:
        yield GaugeMetricFamily(
            "p2prec_privacy_epsilon_budget",
            "Epsilon at which the peer stops contributing; absent without a limit.",
            budget,
        )
    yield GaugeMetricFamily("p2prec_privacy_delta", "Delta that epsilon is stated with.", delta)


def _quality(quality: Quality | None) -> Iterator[Metric]:
    """Absent until the device could measure itself."""
    if quality is None:
        return
    for metric, name in (("ndcg_at_10", "NDCG@10"), ("hr_at_10", "HR@10"), ("auc", "AUC")):
        yield _labelled(
            f"p2prec_quality_{metric}",
            f"{name} on the device's own held-out interactions, full ranking.",
            "model",
            {
                "swarm": getattr(quality, metric),
                "popularity": getattr(quality, f"popularity_{metric}"),
                "alone": getattr(quality, f"alone_{metric}"),
            },
        )
    yield GaugeMetricFamily(
        "p2prec_quality_held_out_interactions", "Interactions that quality is measured on.", quality.held_out
    )


def _traffic(daemon: Daemon) -> Iterator[Metric]:
    bytes_in, bytes_out = daemon.pump.traffic
    yield CounterMetricFamily("p2prec_received_bytes", "Bytes from peers, framing included.", bytes_in)
    yield CounterMetricFamily("p2prec_sent_bytes", "Bytes to peers, framing included.", bytes_out)
    queued = daemon.pump.queued_frames
    yield GaugeMetricFamily("p2prec_connections", "Open connections with peers, greeted or not.", len(queued))
    yield GaugeMetricFamily("p2prec_send_queue_frames", "Frames that wait to be sent, all connections.", sum(queued))
    yield GaugeMetricFamily(
        "p2prec_send_queue_longest_frames", "Frames that wait for the slowest neighbour.", max(queued, default=0)
    )


def _trouble(daemon: Daemon) -> Iterator[Metric]:
    refusals = daemon.peer.refusals
    refused = CounterMetricFamily(
        "p2prec_messages_refused", "Messages that broke the protocol, by reason.", labels=("reason",)
    )
    for reason in Refusal:
        refused.add_metric((reason.value,), refusals.get(reason.value, 0))
    yield refused
    yield CounterMetricFamily(
        "p2prec_connections_refused",
        "Inbound connections of strangers, and those beyond the limits.",
        daemon.connections_refused,
    )
    yield _labelled(
        "p2prec_warning",
        "1 while something is wrong; `p2prec status` says what to do.",
        "kind",
        {kind: kind in daemon.warnings for kind in (*WARNINGS, *(k for k in daemon.warnings if k not in WARNINGS))},
    )
    yield CounterMetricFamily(
        "p2prec_internal_errors", "Bugs met since the start; the log has them.", daemon.pump.internal_errors
    )


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), float(number))
    return family
