"""The same answers as the daemon's, read from the state directory while no daemon runs.

Totals and the last measurement are found under the names that `p2prec.api.status` gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from p2prec.api.pair_queries import PairView, recommend_by_pairs, similar_by_pairs
from p2prec.api.promise import promise_status
from p2prec.api.queries import LocalView, recommend, similar
from p2prec.api.status import NO_QUALITY, QUALITY_META, REFUSED_PREFIX, peer_fields, status_fields
from p2prec.daemon.history import History
from p2prec.daemon.ledger import StoreLedger
from p2prec.daemon.snapshot import from_stored
from p2prec.daemon.sum_ledger import SumLedger
from p2prec.daemon.sum_notes import load_notes
from p2prec.daemon.sum_results import from_stored as sums_from_stored
from p2prec.data.catalogue import Catalogue
from p2prec.errors import StoreError
from p2prec.manifest import Manifest
from p2prec.model.state import ModelState, initial_state
from p2prec.storage.mark import LedgerMark
from p2prec.storage.state import StateDirectory

if TYPE_CHECKING:
    from p2prec.storage.store import Store


def offline_view(directory: StateDirectory) -> LocalView:
    """What the daemon would answer from, read from the store. Raises StateError, ManifestError, StoreError."""
    manifest = directory.swarm()
    catalogue = Catalogue.from_canonical_csv(manifest.catalogue_csv())
    with directory.open_store() as store:
        history = History(store, manifest, catalogue, holdout_fraction=0.0)
        state = _model(store, manifest, catalogue)
        exchanges = store.counters().get("exchanges", 0)
    return LocalView(
        peer_id=directory.identity().peer_id,
        manifest=manifest,
        catalogue=catalogue,
        pairs=history.pairs,
        seen=history.seen,
        state=state,
        exchanges=exchanges,
        version=0,
    )


def _model(store: Store, manifest: Manifest, catalogue: Catalogue) -> ModelState:
    """The last snapshot, or the common start of a peer that has none."""
    fresh = initial_state(manifest.learning, bytes.fromhex(manifest.seed), catalogue.keys)
    stored = store.load_model(manifest.swarm_id)
    if stored is None:
        return fresh
    for name in ("item_factors", "average", "gradient", "evidence", "gram", "probe", "contributions"):
        table = stored.tables.get(name)
        if table is None or table.shape != getattr(fresh, name).shape or not np.isfinite(table).all():
            raise StoreError(f"the saved model is damaged ({name}); p2prec start begins a new one")
    return from_stored(stored)


def offline_pair_view(directory: StateDirectory) -> PairView:
    """The same in a swarm with a promise."""
    manifest = directory.swarm()
    catalogue = Catalogue.from_canonical_csv(manifest.catalogue_csv())
    with directory.open_store() as store:
        history = History(store, manifest, catalogue, holdout_fraction=0.0)
        results = sums_from_stored(store.load_model(manifest.swarm_id), len(catalogue))
    return PairView(
        catalogue=catalogue,
        items=history.pairs.items,
        seen=history.seen,
        model=results.model(),
        has_pairs=results.n_known > 1,
    )


def offline_recommend(directory: StateDirectory, n: int) -> dict[str, Any]:
    """`recommend` from the store."""
    if directory.swarm().promise is not None:
        return recommend_by_pairs(offline_pair_view(directory), n)
    return recommend(offline_view(directory), n)


def offline_similar(directory: StateDirectory, item: str, n: int) -> dict[str, Any]:
    """`similar` from the store."""
    if directory.swarm().promise is not None:
        return similar_by_pairs(offline_pair_view(directory), item, n)
    return similar(offline_view(directory), item, n)


def offline_status(directory: StateDirectory) -> dict[str, Any]:
    """The status of a peer whose daemon does not answer: totals and the last measurement, as it left them."""
    manifest = directory.swarm()
    with directory.open_store() as store:
        counters = store.counters()
        contributions, epsilon_spent, promise = _spent(store, manifest, directory.ledger_mark())
        quality = _stored_quality(store)
        interactions = store.count_interactions()
        peers_seen = len(store.load_peers())
        stored = store.load_model(manifest.swarm_id)
    return status_fields(
        peer_id=directory.identity().peer_id,
        manifest=manifest,
        # A held lock without a socket is a daemon that is coming up or going down.
        state="stopped" if directory.daemon_pid() is None else "starting",
        interactions=interactions,
        contributions=contributions,
        epsilon_spent=epsilon_spent,
        peers_seen=peers_seen,
        rounds=counters.get("rounds", 0),
        exchanges=counters.get("exchanges", 0),
        age_rounds=stored.age if stored and promise is None else 0.0,
        bytes_in=counters.get("bytes_in", 0),
        bytes_out=counters.get("bytes_out", 0),
        connections_refused=counters.get("connections_refused", 0),
        refused_by_reason={
            name.removeprefix(REFUSED_PREFIX): count
            for name, count in counters.items()
            if name.startswith(REFUSED_PREFIX)
        },
        quality=quality,
        promise=promise,
    )


def _spent(store: Store, manifest: Manifest, mark: LedgerMark) -> tuple[int, float, dict[str, Any] | None]:
    """Contributions, the epsilon of them all, and where the swarm's promise stands, if it makes one."""
    if manifest.promise is not None:
        sums = SumLedger(store, manifest.swarm_id, manifest.promise, mark)
        stored = store.load_model(manifest.swarm_id)
        promise = promise_status(
            manifest.promise,
            now=time.time(),
            n_known=int(stored.age) if stored else 0,
            spent_on=sums.spent_on,
            notes=load_notes(store, manifest.swarm_id),
            is_running=False,
        )
        return sums.contributions, sums.epsilon_spent, promise
    counted = StoreLedger(store, manifest, mark)
    last = store.last_ledger_entry(manifest.swarm_id)
    noted = last.epsilon_after if last else 0.0
    return counted.contributions, counted.epsilon_spent if counted.forgotten else noted, None


def _stored_quality(store: Store) -> Mapping[str, float | None]:
    text = store.get_meta(QUALITY_META)
    try:
        found = json.loads(text) if text else {}
        return {name: found.get(name, default) for name, default in NO_QUALITY.items()}
    except (ValueError, AttributeError) as error:
        raise StoreError(f"the saved quality measurement is damaged ({error})") from error


def offline_peers(directory: StateDirectory) -> dict[str, Any]:
    """The peers that were known when the daemon stopped, the most recently seen first."""
    directory.swarm()
    now = time.time()
    with directory.open_store() as store:
        known = store.load_peers()
    return {
        "peers": [
            peer_fields(
                peer_id=peer.peer_id, host=peer.host, port=peer.port, state="known", last_seen_s=now - peer.last_seen
            )
            for peer in known
        ]
    }
