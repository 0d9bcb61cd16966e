"""A small swarm in the simulated world, with interactions that have something to learn."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from p2prec.config import PeerSettings
from p2prec.data.catalogue import Catalogue
from p2prec.manifest import LearningParameters, Manifest, PrivacyParameters, reference_catalogue
from p2prec.sim.world import World
from p2prec.types import ItemKey

N_ITEMS = 60


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(tuple(ItemKey(str(i)) for i in range(N_ITEMS)), tuple(f"Film {i}" for i in range(N_ITEMS)))


@pytest.fixture
def manifest(catalogue: Catalogue) -> Manifest:
    return Manifest(
        name="sim",
        catalogue=reference_catalogue(catalogue.canonical_csv(), N_ITEMS),
        seed="07" * 32,
        learning=LearningParameters(n_factors=4, round_interval_s=1.0),
        privacy=PrivacyParameters(),
    )


@pytest.fixture
def make_world(manifest: Manifest, catalogue: Catalogue) -> Callable[..., World]:
    def make(
        n_peers: int = 0, *, seed: int = 0, settings: PeerSettings | None = None, round_interval_s: float = 1.0
    ) -> World:
        learning = msgspec.structs.replace(manifest.learning, round_interval_s=round_interval_s)
        of_world = msgspec.structs.replace(manifest, learning=learning)
        world = World(of_world, catalogue, seed=seed, settings=settings or PeerSettings())
        rng = np.random.default_rng(seed)
        for i in range(n_peers):
            items = np.sort(rng.choice(N_ITEMS, size=12, replace=False)).astype(np.int64)
            world.add(f"10.0.0.{i + 1}", items, np.ones(12, np.float32))
        return world

    return make
