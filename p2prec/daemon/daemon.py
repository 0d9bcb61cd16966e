"""One peer's life on this machine: from the state directory to the network and back.

`Daemon.open` takes the lock and loads; `run` serves until `stop`; `close` saves and releases. A crash at any moment loses no
interaction and no ledger row (they are the store's), and at most `snapshot_every_s` of learning.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

import p2prec
from p2prec.config import DaemonSettings, TransportKind
from p2prec.daemon.history import History
from p2prec.daemon.ledger import StoreLedger
from p2prec.daemon.log import log_event, logger
from p2prec.daemon.mixing import OtherTransports
from p2prec.daemon.pump import Pump
from p2prec.daemon.shared_model import GossipModel, SharedModel
from p2prec.daemon.snapshot import from_stored
from p2prec.data.catalogue import Catalogue
from p2prec.discovery.base import Announcement, Discovery, Sighting, Trouble
from p2prec.errors import StoreError, UsageError
from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.peer.events import BudgetSpent, Contributed, Event, IdentityConflict, IdentityConflictOver, LedgerFailed
from p2prec.peer.learner import Learner
from p2prec.peer.peer import Peer
from p2prec.peer.quality import Quality, alone_scores
from p2prec.storage.records import KnownPeer
from p2prec.storage.state import StateDirectory
from p2prec.storage.store import Store
from p2prec.transport.base import Transport
from p2prec.transport.choice import make_transport
from p2prec.transport.tcp import InboundRefusal
from p2prec.types import FloatArray, PeerId
from p2prec.wire.codec import Codec
from p2prec.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from p2prec.daemon.promise import PromiseKeeper
    from p2prec.daemon.sum_ledger import SumLedger
    from p2prec.peer.private_peer import PrivatePeer
    from p2prec.wire.sum_codec import SumCodec

QUALITY_META = "quality"
"""Where the store keeps the last measurement: JSON of `p2prec.peer.quality.Quality`."""
STORE_PATIENCE_S = 2.0
"""How long the event loop stands still for another process that is writing. A contribution or snapshot can wait: neighbours give
up a peer that is silent for ten seconds."""
LAST_PATIENCE_S = 15.0
"""The same for the last save, when nobody waits for the loop any more."""
SUMS_POLL_S = 1.0
"""How soon what a private sum came to is saved."""
CLOCK_TOLERANCE_S = 1.0
"""By how much the system's clock may part from the time since the start before the sums follow it."""
HISTORY_POLL_S = 1.0
"""How soon the daemon notices what the command line has logged."""
MAX_SAVED_PEERS = 256

OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the state directory holds, read and checked."""

    directory: StateDirectory
    manifest: Manifest
    catalogue: Catalogue
    identity: Identity
    store: Store


class Daemon:
    """The driver. All methods run on one event loop; nothing in it blocks but short store transactions."""

    def __init__(
        self,
        loaded: Loaded,
        settings: DaemonSettings,
        transport: Transport,
        discovery: Discovery | None,
        on_event: OnEvent = log_event,
    ) -> None:
        self.manifest = loaded.manifest
        self.catalogue = loaded.catalogue
        self.settings = settings
        self.store = loaded.store
        self.identity = loaded.identity
        self.directory = loaded.directory
        self.learner = _restored_learner(loaded)
        self._alone: FloatArray | None = None
        """Scores of a model trained on the own interactions only, while those stay the same."""
        self.history = History(
            self.store, self.manifest, self.catalogue, settings.holdout_fraction, settings.holdout_secret
        )
        self.quality: Quality | None = None
        self._load_interactions()
        self.ledger: StoreLedger | SumLedger
        self.keeper: PromiseKeeper | None = None
        """This device's part in the swarm's promise; None where there is none."""
        mark = loaded.directory.ledger_mark()
        if self.manifest.promise is None:
            self.ledger = StoreLedger(self.store, self.manifest, mark)
        else:
            # Not above, as all that only a promise needs: 2 MB of a device's memory.
            from p2prec.daemon.promise import PromiseKeeper
            from p2prec.daemon.sum_ledger import SumLedger

            promise, swarm_id = self.manifest.promise, self.manifest.swarm_id
            self.ledger = SumLedger(self.store, swarm_id, promise, mark)
            self.keeper = PromiseKeeper(
                promise,
                swarm_id,
                len(self.catalogue.keys),
                self.store,
                self.history,
                self.ledger,
                self._follow_history,
            )
        self.version = 0
        """Grows with every round and every change of the history: answers computed for one version may be kept."""
        self.warnings: dict[str, str] = {}
        """What is wrong at present, by kind, in words that say what to do."""
        if self.ledger.forgotten:
            self.warnings["restored"] = (
                f"the store comes from an old backup: it does not know of {self.ledger.forgotten} contributions that this"
                " device had sent; they count as spent (p2prec privacy)"
            )
        self.earlier = self.store.counters()
        """Totals of former runs."""
        self.connections_refused = 0
        """Inbound connections that never became a link: strangers, and those beyond the transport's limits."""
        self.others = OtherTransports(settings.transport)
        """Those that cannot be met."""
        self._others_told = ""
        self._saved: dict[str, int] = {}
        self.listening = asyncio.Event()
        """Set once peers can connect."""
        self._on_event = on_event
        self._transport = transport
        self._discovery = discovery
        self._instance = os.urandom(16)
        self._announcement: Announcement | None = None
        self._started_at = time.monotonic()
        self._quality_version = -1
        n_items = len(self.catalogue.keys)
        sums: SumCodec | None = None
        self.private: PrivatePeer | None = None
        if self.keeper is not None:
            from p2prec.daemon.promise import sum_codec

            sums = sum_codec(self.keeper.promise, n_items)
            self.private = self.keeper.private_peer(self.identity, sums, _generator())
        peer = Peer(
            peer_id=self.identity.peer_id,
            instance=self._instance,
            manifest=self.manifest,
            learner=self.learner,
            ledger=self.ledger,
            settings=settings.peer,
            rng=_generator(),
            learning_rng=_generator(),
            random_bytes=os.urandom,
            now=asyncio.get_running_loop().time(),
            agent=f"p2prec/{p2prec.__version__}",
            private=self.private,
            unix_offset_s=time.time() - asyncio.get_running_loop().time(),
        )
        codec = Codec(self.manifest.learning, n_items, sums)
        endpoint = Endpoint(peer, self.identity, self.manifest.swarm_id, codec, os.urandom)
        self.pump = Pump(endpoint, transport, settings, self._handle_event)
        self.peer = peer
        self.model: SharedModel = self.keeper or GossipModel(self.learner, peer, self.store, self.manifest.swarm_id)

    # --- life ---

    async def run(self) -> None:
        """Listen, announce and learn until `stop`. Raises TransportFailure when the address is taken."""
        await self._transport.listen(self.settings.listen_host, self.settings.listen_port, self.pump.accept)
        self.peer.listen_port = self._transport.listen_port
        logger.info(
            "peer %s of swarm %r listens on %s",
            self.identity.peer_id,
            self.manifest.name,
            self.listen_address,
        )
        for host, port in self.settings.static_peers:
            self.peer.book.add_static(host, port)
        monotonic_offset = self.pump.now - time.time()
        for known in self.store.load_peers():
            last_seen = min(self.pump.now, known.last_seen + monotonic_offset)
            self.peer.book.sight(known.peer_id, known.host, known.port, "store", last_seen)
        self._announce()
        self.listening.set()
        chores = [
            asyncio.create_task(self._every(HISTORY_POLL_S, "history", self._follow_history)),
            asyncio.create_task(self._every(self.settings.quality_every_s, "quality", self.measure_quality)),
            asyncio.create_task(self._every(self.settings.snapshot_every_s, "store", self.save)),
        ]
        if self.private is not None:
            chores.append(asyncio.create_task(self._every(SUMS_POLL_S, "sums", self._follow_sums)))
        try:
            await self.pump.run()
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            self.store.set_patience(LAST_PATIENCE_S)
            self.save()
            logger.info("stopped after %d rounds; everything is saved", self.peer.rounds)
            if self._discovery is not None and self._announcement is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._discovery.withdraw(self._announcement), 1.0)

    def stop(self) -> None:
        """End `run` cleanly: say goodbye, save."""
        self.pump.stop()

    def _announce(self) -> None:
        if self._discovery is None:
            return
        self._announcement = Announcement(
            swarm_id=self.manifest.swarm_id,
            peer_id=self.identity.peer_id,
            instance=self._instance,
            port=self._transport.listen_port,
            host=self.settings.listen_host,
            transport=self.settings.transport,
        )
        self._discovery.announce(self._announcement, self._on_sighting, lambda gone: self.others.gone(gone.peer_id))

    def _on_sighting(self, sighting: Sighting) -> None:
        if sighting.transport is not self.settings.transport:
            self.others.announced(sighting.transport, sighting.peer_id, sighting.host, sighting.port, self.pump.now)
            self._log_others()
            return
        self.others.gone(sighting.peer_id)  # it was started anew, with the right transport
        self.pump.sighted(sighting.peer_id, sighting.instance, sighting.host, sighting.port, "mdns")

    def on_discovery_trouble(self, trouble: Trouble | None) -> None:
        """For the discovery's callback."""
        if trouble is None:
            self.warnings.pop("discovery", None)
            logger.info("discovery works again")
        else:
            self.warnings["discovery"] = f"{trouble.message}: {trouble.remedy}"
            logger.warning("%s: %s", trouble.message, trouble.remedy)

    def on_stranger(self, host: str, refusal: InboundRefusal, detail: str) -> None:
        """For the transport's callback: somebody connected and could not prove to be of this swarm, or was one too many."""
        self.connections_refused += 1
        # Every one with --verbose; otherwise the first, tenth, hundredth ...: a port scan must not fill the log.
        routine = str(self.connections_refused).strip("0") != "1"
        logger.log(
            logging.DEBUG if routine else logging.INFO,
            "refused a connection from %s (%s%s); %s so far",
            host or "somebody",
            refusal.value.replace("-", " "),
            f": {detail}" if detail else "",
            f"{self.connections_refused:,}",
        )

    def on_mismatch(self, host: str, port: int, spoken: TransportKind) -> None:
        """For the transport's callback: somebody speaks another one."""
        self.others.met(spoken, host, port, self.pump.now)
        self._log_others()

    def _log_others(self) -> None:
        """Once, and again when there is something else to tell."""
        warning = self.others.warning(self.pump.now)
        if warning is not None and warning != self._others_told:
            self._others_told = warning
            logger.warning("%s", warning)

    def _handle_event(self, event: Event) -> None:
        match event:
            case IdentityConflict(host, proven):
                self.warnings["identity"] = (
                    f"this identity also runs at {host}; run 'p2prec identity renew' on one of the two machines"
                    if proven
                    else f"a neighbour says: {host}"
                )
            case IdentityConflictOver():
                self.warnings.pop("identity", None)
            case LedgerFailed(reason):
                self.warnings["ledger"] = f"nothing is contributed: the privacy ledger cannot be written ({reason})"
            case Contributed():
                self.warnings.pop("ledger", None)
            case BudgetSpent(_, budget):
                self.warnings["budget"] = (
                    f"the privacy budget of epsilon {budget:g} is spent: this peer learns from others and contributes nothing"
                )
            case _:
                pass
        self._on_event(event)

    async def _every(self, interval_s: float, name: str, chore: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self._attempt(name, chore)

    def _attempt(self, name: str, chore: Callable[[], None]) -> None:
        """The disk may recover, and a bug must not end a chore for ever: the daemon goes on, and `status` says what is wrong."""
        try:
            chore()
        except StoreError as error:
            if self.warnings.get(name) != str(error):
                logger.error("%s", error)
            self.warnings[name] = str(error)
        except Exception as error:
            logger.exception("internal error (%s); please report it", name)
            self.warnings[name] = f"internal error ({name}: {type(error).__name__}); the log has the details"
        else:
            if self.warnings.pop(name, None) is not None:
                logger.info("%s: works again", name)

    def current_warnings(self) -> list[str]:
        """What is wrong at present, and bugs met since the start."""
        bugs = self.pump.internal_errors
        found = [f"{bugs} internal errors since the start; the log has the details"] if bugs else []
        others = self.others.warning(self.pump.now)
        return [*self.warnings.values(), *([others] if others else []), *found]

    # --- the promise ---

    def _follow_sums(self) -> None:
        """Keep what the core has learned, and follow the system's clock: it is set, and stands still while the machine sleeps."""
        offset_s = time.time() - self.pump.now
        if abs(offset_s - self.peer.unix_offset_s) > CLOCK_TOLERANCE_S:
            logger.info("the clock was set by %.0f s", offset_s - self.peer.unix_offset_s)
            self.peer.unix_offset_s = offset_s
        if self.keeper is not None:
            self.keeper.follow()

    # --- the owner's side ---

    def _follow_history(self) -> None:
        if self.history.refresh():
            self._load_interactions()
            self.version += 1
            logger.info(
                "interactions changed: %d logged, %d to learn from", self.history.count, len(self.history.training)
            )

    def _load_interactions(self) -> None:
        training = self.history.training
        self.learner.set_interactions(training.items, training.values, training.times)
        self._alone = None
        if not self.history.test_items.size:
            self.quality = None  # it was measured on what has been forgotten since

    def measure_quality(self) -> None:
        """Measure on the held-out part, if anything has changed since the last time."""
        version = self.current_version
        if version == self._quality_version or not self.history.test_items.size or not self.model.is_there:
            return
        self._quality_version = version
        if self._alone is None:
            self._alone = alone_scores(self.learner, self.catalogue.keys, bytes.fromhex(self.manifest.seed))
        self.quality = self.model.quality(self.history.test_items, self._alone)
        logger.info(
            "round %d: NDCG@10 %.3f on %d held-out items (popularity %.3f, alone %.3f), %d neighbours",
            self.peer.rounds,
            self.quality.ndcg_at_10,
            self.quality.held_out,
            self.quality.popularity_ndcg_at_10,
            self.quality.alone_ndcg_at_10,
            len(self.peer.neighbours),
        )

    @property
    def current_version(self) -> int:
        return self.version + self.model.version

    # --- state ---

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._started_at

    @property
    def state(self) -> str:
        """What it is doing: "running" (with neighbours), "searching" (with none), "conflict" (this identity runs elsewhere)."""
        if self.peer.conflict_host is not None:
            return "conflict"
        return "running" if self.peer.neighbours else "searching"

    @property
    def listen_address(self) -> str:
        return f"{self.settings.listen_host}:{self._transport.listen_port}"

    def totals(self) -> dict[str, int]:
        """Counts of this run."""
        bytes_in, bytes_out = self.pump.traffic
        return {
            "rounds": self.peer.rounds,
            "exchanges": self.peer.exchanges,
            "connections_refused": self.connections_refused,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            **{f"refused.{reason}": n for reason, n in self.peer.refusals.items()},
        }

    def save(self) -> None:
        """Write model, counters and known peers. Raises StoreError."""
        self.model.save()
        totals = self.totals()
        self.store.add_counters({name: n - self._saved.get(name, 0) for name, n in totals.items()})
        self._saved = totals
        self.store.save_peers(self._known_peers())
        if self.quality is not None:
            self.store.set_meta(QUALITY_META, json.dumps(asdict(self.quality)))
        elif not self.history.test_items.size:
            self.store.set_meta(QUALITY_META, "")

    def _known_peers(self) -> list[KnownPeer]:
        offset = time.time() - self.pump.now
        met = [known for known in self.peer.book.peers.values() if known.addresses and known.source != "exchange"]
        met.sort(key=lambda known: -known.last_seen)
        return [
            KnownPeer(PeerId(k.peer_id), *k.addresses[0], last_seen=k.last_seen + offset) for k in met[:MAX_SAVED_PEERS]
        ]


def load(directory: StateDirectory) -> Loaded:
    """Read a state directory; the caller holds its lock. Raises StateError, ManifestError, StoreError."""
    manifest = directory.swarm()
    catalogue = Catalogue.from_canonical_csv(manifest.catalogue_csv())
    identity = directory.identity()
    directory.require_free()
    store = directory.open_store(verify=True)
    store.enter_swarm(manifest.swarm_id)
    store.set_patience(STORE_PATIENCE_S)
    return Loaded(directory, manifest, catalogue, identity, store)


def open_daemon(
    loaded: Loaded, settings: DaemonSettings, discovery: Discovery | None, on_event: OnEvent = log_event
) -> Daemon:
    """A daemon with the transport of its settings. Raises UsageError when the membership secret or that transport is missing."""
    secret = loaded.directory.membership_secret()
    transport = make_transport(
        settings.transport,
        loaded.identity,
        loaded.manifest,
        secret,
        on_refused=lambda *refusal: daemon.on_stranger(*refusal),
        on_mismatch=lambda *mismatch: daemon.on_mismatch(*mismatch),
    )
    daemon = Daemon(loaded, settings, transport, discovery, on_event)
    return daemon


def _generator() -> np.random.Generator:
    """A new one that nobody can foretell."""
    return np.random.default_rng(np.frombuffer(os.urandom(32), np.uint32))


def _restored_learner(loaded: Loaded) -> Learner:
    """A learner as the last snapshot left it; without one, or with a damaged one, from the common start.

    In a swarm with a promise it only measures what the device could do alone: what is stored there are both sums' results.
    """
    manifest = loaded.manifest
    learner = Learner(manifest.learning, manifest.privacy, loaded.catalogue.keys, bytes.fromhex(manifest.seed))
    if manifest.promise is not None:
        return learner
    try:
        stored = loaded.store.load_model(manifest.swarm_id)
        if stored is not None:
            learner.state = from_stored(stored)
    except (StoreError, UsageError, KeyError) as error:
        logger.warning("the saved model could not be used (%s): this peer learns it again from the others", error)
        loaded.store.drop_model()
    return learner
