"""What a monitor reads: valid for Prometheus, true, documented, and silent about who anybody is."""

from __future__ import annotations

import asyncio
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from peer_rig import MANIFEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from p2prec.api.collector import STATES, WARNINGS
from p2prec.api.exposition import FAILURES, Exposition
from p2prec.cli.start import metrics_address
from p2prec.config import DaemonSettings
from p2prec.daemon.daemon import Daemon, load
from p2prec.errors import UsageError
from p2prec.manifest import Manifest, PrivacyParameters
from p2prec.peer import events
from p2prec.peer.messages import Refusal
from p2prec.peer.quality import Quality
from p2prec.storage.invitation import Invitation
from p2prec.storage.state import StateDirectory
from p2prec.transport.memory import MemoryNetwork
from p2prec.types import PeerId

REFERENCE = Path(__file__).parents[2] / "docs" / "reference-metrics.md"
PEER = PeerId("12D3KooWsomebody")
QUALITY = Quality(0.3, 0.4, 0.5, 0.2, 0.25, 0.45, 0.1, 0.15, 0.55, 7)
BUDGETED = Manifest(
    **{name: getattr(MANIFEST, name) for name in ("name", "catalogue", "seed", "learning")},
    privacy=PrivacyParameters(noise_multiplier=2.0, epsilon_budget=4.0),
)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def with_exposition(
    tmp_path: Path, test: Callable[[Daemon, Exposition], None], *, manifest: Manifest = MANIFEST
) -> None:
    async def whole() -> None:
        directory = StateDirectory.open(tmp_path / "state")
        directory.join(Invitation(manifest, None))
        loaded = load(directory)
        with loaded.store:
            transport = MemoryNetwork().transport(loaded.identity.peer_id, manifest.swarm_id)
            exposition = Exposition()
            daemon = Daemon(loaded, DaemonSettings(), transport, None, exposition.observe)
            exposition.watch(daemon)
            test(daemon, exposition)

    asyncio.run(whole())


def read(exposition: Exposition) -> Samples:
    text = exposition.metrics("").body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_events_are_counted(tmp_path: Path) -> None:
    def test(daemon: Daemon, exposition: Exposition) -> None:
        for event in (
            events.NeighbourUp(PEER, "10.0.0.9", True, 1),
            events.ExchangeDone(PEER, True, 0.02),
            events.ExchangeDone(PEER, True, 3.0),
            events.ExchangeDone(PEER, False, 0.5),
            events.ExchangeFailed(PEER, True, "busy"),
            events.DialFailed("10.0.0.8", 4001, "refused", 5.0),
            events.PeerBanned(PEER, 600.0),
            events.NeighbourDown(PEER, "closed", 0),
            events.IdentityConflict("10.0.0.9", True),
        ):
            daemon._handle_event(event)
        assert daemon.pump.on_round is not None
        daemon.pump.on_round(0.03)
        samples = read(exposition)
        assert value(samples, "p2prec_exchanges_total", role="initiator") == 2
        assert value(samples, "p2prec_exchanges_total", role="responder") == 1
        assert value(samples, "p2prec_exchange_duration_seconds_sum", role="initiator") == pytest.approx(3.02)
        assert value(samples, "p2prec_exchange_duration_seconds_bucket", role="initiator", le="0.025") == 1
        assert value(samples, "p2prec_exchanges_failed_total", role="initiator", reason="busy") == 1
        for name in ("neighbours_met", "neighbours_lost", "dials_failed", "peers_banned"):
            assert value(samples, f"p2prec_{name}_total") == 1
        assert value(samples, "p2prec_round_duration_seconds_bucket", le="0.05") == 1
        assert value(samples, "p2prec_warning", kind="identity") == 1
        assert value(samples, "p2prec_warning", kind="store") == 0

    with_exposition(tmp_path, test)


def test_what_has_not_happened_yet_is_zero_and_not_absent(tmp_path: Path) -> None:
    """A rate or an alert needs the series from before."""

    def test(daemon: Daemon, exposition: Exposition) -> None:
        samples = read(exposition)
        for role in ("initiator", "responder"):
            assert value(samples, "p2prec_exchanges_total", role=role) == 0
            for reason in FAILURES:
                assert value(samples, "p2prec_exchanges_failed_total", role=role, reason=reason) == 0
        for refusal in Refusal:
            assert value(samples, "p2prec_messages_refused_total", reason=refusal.value) == 0
        assert value(samples, "p2prec_state", state="searching") == 1
        assert value(samples, "p2prec_state", state="running") == 0

    with_exposition(tmp_path, test)


def test_the_state_is_the_daemons(tmp_path: Path) -> None:
    def test(daemon: Daemon, exposition: Exposition) -> None:
        daemon.peer.rounds, daemon.connections_refused, daemon.pump.internal_errors = 12, 3, 1
        daemon.peer.refusals["forged"] += 2
        daemon.quality = QUALITY
        samples = read(exposition)
        assert value(samples, "p2prec_rounds_total") == 12
        assert value(samples, "p2prec_connections_refused_total") == 3
        assert value(samples, "p2prec_internal_errors_total") == 1
        assert value(samples, "p2prec_messages_refused_total", reason="forged") == 2
        assert value(samples, "p2prec_quality_ndcg_at_10", model="swarm") == 0.3
        assert value(samples, "p2prec_quality_hr_at_10", model="popularity") == 0.25
        assert value(samples, "p2prec_quality_auc", model="alone") == 0.55
        assert value(samples, "p2prec_quality_held_out_interactions") == 7
        assert value(samples, "p2prec_privacy_epsilon_budget") == 4.0
        assert value(samples, "p2prec_privacy_epsilon_spent") == 0.0
        assert value(samples, "p2prec_catalogue_items") == BUDGETED.catalogue.n_items
        assert value(samples, "process_resident_memory_bytes") > 1e6
        assert value(samples, "process_cpu_seconds_total") > 0

    with_exposition(tmp_path, test, manifest=BUDGETED)


def test_what_is_not_known_is_absent_and_no_noise_is_infinite(tmp_path: Path) -> None:
    def test(daemon: Daemon, exposition: Exposition) -> None:
        daemon.ledger.record()
        names = {name for name, _ in read(exposition)}
        assert not {name for name in names if name.startswith("p2prec_quality")}
        assert "p2prec_privacy_epsilon_budget" not in names
        assert math.isinf(value(read(exposition), "p2prec_privacy_epsilon_spent"))

    noiseless = Manifest(
        **{name: getattr(MANIFEST, name) for name in ("name", "catalogue", "seed", "learning")},
        privacy=PrivacyParameters(noise_multiplier=0.0, epsilon_budget=None),
    )
    with_exposition(tmp_path, test, manifest=noiseless)


def test_nobody_is_named(tmp_path: Path) -> None:
    def test(daemon: Daemon, exposition: Exposition) -> None:
        daemon._handle_event(events.PeerSighted(PEER, "10.0.0.9", 4001, "mdns"))
        daemon._handle_event(events.NeighbourUp(PEER, "10.0.0.9", True, 1))
        daemon._handle_event(events.MessageRefused(PEER, "forged", "of 10.0.0.9"))
        text = exposition.metrics("").body.decode()
        assert daemon.identity.peer_id not in text
        assert "12D3KooW" not in text
        assert "10.0.0.9" not in text

    with_exposition(tmp_path, test)


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0", "text/plain; version=0.0.4"])
def test_both_formats_are_valid(tmp_path: Path, accept: str) -> None:
    def test(daemon: Daemon, exposition: Exposition) -> None:
        daemon.quality = QUALITY
        page = exposition.metrics(accept)
        parse = parse_openmetrics if "openmetrics" in accept else parse_text
        assert page.content_type.startswith(accept.partition(";")[0])
        assert len(list(parse(page.body.decode()))) > 30

    with_exposition(tmp_path, test)


def test_every_metric_is_in_the_reference_and_the_reference_has_no_other(tmp_path: Path) -> None:
    def test(daemon: Daemon, exposition: Exposition) -> None:
        daemon.quality = QUALITY
        exposed = {
            f"{family.name}_total" if family.type == "counter" else family.name
            for family in parse_text(exposition.metrics("").body.decode())
        }
        documented = set(re.findall(r"^\| `([a-z0-9_]+)", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE))
        assert exposed == documented

    with_exposition(tmp_path, test, manifest=BUDGETED)


def test_the_reference_has_every_label_that_is_a_reason() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert all(f"`{reason}`" in text for reason in (*FAILURES, *Refusal, *WARNINGS, *STATES))


def test_health_tells_the_state(tmp_path: Path) -> None:
    def test(daemon: Daemon, exposition: Exposition) -> None:
        assert exposition.health("").body == b"searching\n"

    with_exposition(tmp_path, test)
    assert Exposition().health("").body == b"starting\n"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
    ],
)
def test_where_metrics_are_served(text: str, address: tuple[str, int]) -> None:
    assert metrics_address(text) == address


@pytest.mark.parametrize("text", ["65536", "127.0.0.1:65536", "localhost:9464", "127.0.0.1", ":9464", "x"])
def test_where_metrics_cannot_be_served(text: str) -> None:
    with pytest.raises(UsageError, match="--metrics"):
        metrics_address(text)


def test_the_library_is_loaded_only_on_demand() -> None:
    program = (
        "import sys; from p2prec.cli import lean, serve; lean.import_all()\n"
        "print([name for name in sys.modules if name.startswith(('prometheus_client', 'p2prec.api.exposition'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
