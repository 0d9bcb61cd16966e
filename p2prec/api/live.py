"""What the running daemon answers over its control socket."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from p2prec.api.queries import LocalView, QueryCache, similar
from p2prec.api.status import NO_QUALITY, REFUSED_PREFIX, peer_fields, status_fields
from p2prec.daemon.daemon import Daemon
from p2prec.daemon.process import rss_bytes
from p2prec.errors import UsageError

if TYPE_CHECKING:
    from p2prec.api.pair_queries import PairView
    from p2prec.daemon.promise import PromiseKeeper


class LiveAnswers:
    """Answers commands from a daemon's state. Call it as the control server's handler, on the daemon's event loop."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._cache = QueryCache()
        self._commands: dict[str, Callable[..., dict[str, Any]]] = {
            "status": self.status,
            "peers": self.peers,
            "recommend": self.recommend,
            "similar": self.similar,
        }

    def __call__(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Raises UsageError for an unknown command or wrong arguments."""
        answer = self._commands.get(command)
        if answer is None:
            raise UsageError(f"unknown command {command!r}; there are {', '.join(sorted(self._commands))}")
        try:
            inspect.signature(answer).bind(**arguments)
        except TypeError as error:
            raise UsageError(f"{command}: {error}") from error
        return answer(**arguments)

    def status(self) -> dict[str, Any]:
        daemon, peer = self._daemon, self._daemon.peer
        keeper = daemon.keeper
        totals = {name: n + daemon.earlier.get(name, 0) for name, n in daemon.totals().items()}
        return status_fields(
            peer_id=peer.peer_id,
            manifest=daemon.manifest,
            state=daemon.state,
            interactions=daemon.history.count,
            contributions=peer.contributions,
            epsilon_spent=daemon.ledger.epsilon_spent,
            uptime_s=daemon.uptime_s,
            listen=daemon.listen_address,
            transport=daemon.settings.transport,
            neighbours=len(peer.neighbours),
            peers_seen=peer.book.peers_seen,
            rounds=totals["rounds"],
            exchanges=totals["exchanges"],
            age_rounds=float(daemon.learner.age),
            bytes_in=totals["bytes_in"],
            bytes_out=totals["bytes_out"],
            refused_by_reason=_refused(daemon),
            connections_refused=totals["connections_refused"],
            quality=NO_QUALITY if daemon.quality is None else asdict(daemon.quality),
            rss_bytes=rss_bytes(),
            warnings=daemon.current_warnings(),
            promise=None if keeper is None else _promise(keeper),
        )

    def peers(self) -> dict[str, Any]:
        daemon, peer = self._daemon, self._daemon.peer
        now = daemon.pump.now
        entries = []
        for link in peer.neighbours:
            bytes_in, bytes_out = daemon.pump.link_traffic(link.number)
            entries.append(
                peer_fields(
                    peer_id=link.remote_id,
                    host=link.host,
                    port=link.hello.listen_port if link.hello else 0,
                    state="connected",
                    direction="out" if link.outbound else "in",
                    last_seen_s=now - link.last_heard,
                    exchanges=link.exchanges,
                    bytes_in=bytes_in,
                    bytes_out=bytes_out,
                )
            )
        connected = {link.remote_id for link in peer.neighbours}
        known = sorted(peer.book.peers.values(), key=lambda k: -k.last_seen)
        entries += [
            peer_fields(
                peer_id=k.peer_id,
                host=k.addresses[0][0],
                port=k.addresses[0][1],
                state="known",
                last_seen_s=now - k.last_seen,
            )
            for k in known
            if k.peer_id not in connected and k.addresses
        ]
        entries += [
            peer_fields(
                peer_id=other.peer_id or "",
                host=other.host,
                port=other.port,
                state="other transport",
                last_seen_s=now - other.last_seen,
            )
            for other in daemon.others.listed(now)
        ]
        return {"peers": entries}

    def recommend(self, n: int = 10) -> dict[str, Any]:
        if self._daemon.keeper is not None:
            from p2prec.api.pair_queries import recommend_by_pairs  # not above: only a promise needs it

            return recommend_by_pairs(self.pair_view(self._daemon.keeper), n)
        return self._cache.recommend(self.view(), n)

    def similar(self, item: str, n: int = 10) -> dict[str, Any]:
        if self._daemon.keeper is not None:
            from p2prec.api.pair_queries import similar_by_pairs

            return similar_by_pairs(self.pair_view(self._daemon.keeper), item, n)
        return similar(self.view(), item, n)

    def pair_view(self, keeper: PromiseKeeper) -> PairView:
        """What answers are computed from in a swarm with a promise, as of now."""
        from p2prec.api.pair_queries import PairView

        return PairView(
            catalogue=self._daemon.catalogue,
            items=self._daemon.history.pairs.items,
            seen=self._daemon.history.seen,
            model=keeper.model,
            has_pairs=keeper.results.n_known > 1,
        )

    def view(self) -> LocalView:
        """What answers are computed from, as of now."""
        daemon = self._daemon
        return LocalView(
            peer_id=daemon.peer.peer_id,
            manifest=daemon.manifest,
            catalogue=daemon.catalogue,
            pairs=daemon.history.pairs,
            seen=np.asarray(daemon.history.seen),
            state=daemon.learner.state,
            exchanges=daemon.peer.exchanges + daemon.earlier.get("exchanges", 0),
            version=daemon.current_version,
        )


def _promise(keeper: PromiseKeeper) -> dict[str, Any]:
    from p2prec.api.promise import promise_status

    return promise_status(
        keeper.promise,
        now=time.time(),
        n_known=keeper.results.n_known,
        spent_on=keeper.ledger.spent_on,
        notes=keeper.notes,
        is_running=True,
    )


def _refused(daemon: Daemon) -> dict[str, int]:
    earlier = {
        name.removeprefix(REFUSED_PREFIX): n for name, n in daemon.earlier.items() if name.startswith(REFUSED_PREFIX)
    }
    return {r: earlier.get(r, 0) + daemon.peer.refusals.get(r, 0) for r in {*earlier, *daemon.peer.refusals}}
