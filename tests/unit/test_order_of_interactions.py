"""From the store to what is recommended: what somebody did last decides, and only the device knows when it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from p2prec.api.live import LiveAnswers
from p2prec.config import DaemonSettings
from p2prec.daemon.daemon import Daemon, load
from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import Interaction
from p2prec.manifest import LearningParameters, Manifest, reference_catalogue
from p2prec.storage.invitation import Invitation
from p2prec.storage.state import StateDirectory
from p2prec.transport.memory import MemoryNetwork
from p2prec.types import ItemKey

KEYS = tuple(ItemKey(f"{genre}{number}") for genre in ("robot", "kiss") for number in range(6))
CATALOGUE = Catalogue(KEYS, tuple(str(key) for key in KEYS))
ROBOTS_THEN_KISSES = ["robot0", "robot1", "robot2", "robot3", "kiss0", "kiss1", "kiss2", "kiss3"]


def recommended(
    directory: Path, plays: list[tuple[str, float]], objective: str = "implicit"
) -> list[dict[str, object]]:
    """What a daemon recommends (`p2prec recommend`) and its learner too, after these plays at these times."""
    learning = LearningParameters(n_factors=2, objective=objective)  # type: ignore[arg-type]
    reference = reference_catalogue(CATALOGUE.canonical_csv(), len(KEYS))
    manifest = Manifest(name="order", catalogue=reference, seed="0" * 64, learning=learning)

    async def whole() -> list[dict[str, object]]:
        state = StateDirectory.open(directory)
        state.join(Invitation(manifest, None))
        loaded = load(state)
        with loaded.store:
            loaded.store.add_interactions(Interaction(ItemKey(item), "rating", 5.0, time) for item, time in plays)
            transport = MemoryNetwork().transport(loaded.identity.peer_id, manifest.swarm_id)
            daemon = Daemon(loaded, DaemonSettings(holdout_fraction=0.0), transport, None)
            model = daemon.learner.state
            model.item_factors[:, :2] = model.average[:, :2] = np.repeat(np.eye(2, dtype=np.float32), 6, axis=0)
            model.evidence[:] = 0.1
            daemon.learner.solve()
            found: list[dict[str, object]] = LiveAnswers(daemon).recommend(4)["recommendations"]
            assert [KEYS[item] for item in daemon.learner.recommend(4)] == [one["item"] for one in found]
            return found

    return asyncio.run(whole())


def genres(found: list[dict[str, object]]) -> list[str]:
    return [str(one["item"]).rstrip("0123456789") for one in found]


@pytest.mark.parametrize("newest_first", [False, True])
def test_what_was_played_last_comes_first(tmp_path: Path, newest_first: bool) -> None:
    played = ROBOTS_THEN_KISSES[::-1] if newest_first else ROBOTS_THEN_KISSES
    found = recommended(tmp_path, [(item, 1000.0 + at) for at, item in enumerate(played)])
    last, other = ("robot", "kiss") if newest_first else ("kiss", "robot")
    assert genres(found) == [last, last, other, other]
    assert float(found[0]["score"]) > 1.5 * float(found[2]["score"])  # type: ignore[arg-type]
    assert all(str(own).startswith(last) for own in found[0]["because"])  # type: ignore[attr-defined]


def test_without_times_and_for_ratings_order_says_nothing(tmp_path: Path) -> None:
    unknown = recommended(tmp_path / "unknown", [(item, 0.0) for item in ROBOTS_THEN_KISSES])
    assert np.ptp([one["score"] for one in unknown]) < 1e-6  # type: ignore[arg-type]
    timed = [(item, 1000.0 + at) for at, item in enumerate(ROBOTS_THEN_KISSES)]
    rated = recommended(tmp_path / "rated", timed, "explicit")
    assert np.ptp([one["score"] for one in rated]) < 1e-5  # type: ignore[arg-type]


def test_only_the_order_reaches_the_learner(tmp_path: Path) -> None:
    steps = [(item, 1000.0 + at) for at, item in enumerate(ROBOTS_THEN_KISSES)]
    years = [(item, 1e6 * (1 + at) ** 2) for at, item in enumerate(ROBOTS_THEN_KISSES)]
    assert msgspec.json.encode(recommended(tmp_path / "1", steps)) == msgspec.json.encode(
        recommended(tmp_path / "2", years)
    )
