"""All baselines by name, with the settings that the lab compares."""

from __future__ import annotations

from p2prec.lab.baselines.alone import Alone
from p2prec.lab.baselines.base import Baseline
from p2prec.lab.baselines.biased_mf import BiasedMf
from p2prec.lab.baselines.central import Central
from p2prec.lab.baselines.d_psgd import DPsgd
from p2prec.lab.baselines.ease import Ease
from p2prec.lab.baselines.epidemic_learning import EpidemicLearning
from p2prec.lab.baselines.fcf import Fcf
from p2prec.lab.baselines.fedmf import FedMf
from p2prec.lab.baselines.gossip_learning import GossipLearning
from p2prec.lab.baselines.ials import Ials
from p2prec.lab.baselines.ials_rendle import IalsRendle
from p2prec.lab.baselines.item_knn import ItemKnn
from p2prec.lab.baselines.popularity import Popularity
from p2prec.manifest import LearningParameters, PrivacyParameters


def baselines(learning: LearningParameters, privacy: PrivacyParameters, seed: bytes) -> dict[str, Baseline]:
    """Those that can learn from this objective, in the order of the report: in one place, federated, decentralized.

    learning, privacy, seed: the swarm's, for the baselines that are the swarm's own model under other circumstances.
    """
    everything: tuple[Baseline, ...] = (
        Central(learning, privacy, seed),
        BiasedMf(),
        Ials(),
        IalsRendle(),
        Ease(),
        ItemKnn(),
        Popularity(),
        Fcf(),
        FedMf(),
        GossipLearning(),
        DPsgd(),
        EpidemicLearning(),
        Alone(learning, privacy, seed),
    )
    return {one.name: one for one in everything if learning.objective in one.objectives}
