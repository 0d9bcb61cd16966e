"""One run of gossipy's matrix factorization example, for peers.py. Runs in an environment of its own: nothing of p2prec here.

What is not as in the example (`main_hegedus_2020.py` of github.com/makgyver/gossipy, the source of the package gossipy-dfl):
the data set is given rather than downloaded, and one peer rather than a tenth of all is measured after each round. And what
the package needs to run at all with today's libraries:

- it imports torchvision for image sets that this example has nothing to do with: an empty module stands in for it;
- networkx now returns a sparse array, which gossipy does not recognize as a graph: it is given the matrix.
"""

# ruff: noqa: E402 -- the empty module has to be there before gossipy is imported

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

sys.modules["torchvision"] = ModuleType("torchvision")

import gossipy.data as gossipy_data
import numpy as np
from gossipy import set_seed
from gossipy.core import AntiEntropyProtocol, CreateModelMode, StaticP2PNetwork, UniformDelay
from gossipy.data.handler import RecSysDataHandler
from gossipy.model.handler import MFModelHandler
from gossipy.node import GossipNode
from gossipy.simul import GossipSimulator, SimulationReport
from networkx import to_scipy_sparse_array
from networkx.generators.random_graphs import random_regular_graph
from scipy.sparse import csr_matrix

DATA_SET = "ml-100k"
N_NEIGHBOURS = 20
TEST_SIZE = 0.1
ROUND_LEN = 100
"""Steps of the simulator's clock in a round, in which every peer pushes its model once."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path, help="user, item, rating and time, tab separated, as MovieLens' u.data")
    parser.add_argument("folder", type=Path, help="where to write tests.csv and report.json")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--factors", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    options.folder.mkdir()

    set_seed(options.seed)
    ratings, n_peers, n_items = load(options.ratings, options.folder)
    data = RecSysDataHandler(ratings, n_peers, n_items, TEST_SIZE, seed=options.seed)
    simulator = simulation(data, options.factors, options.seed)
    simulator.init_nodes()
    started, cpu = time.perf_counter(), time.process_time()
    simulator.start(n_rounds=options.rounds)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    write_tests(options.folder / "tests.csv", simulator, names(options.ratings))
    report = {
        "peers": n_peers,
        "rounds": options.rounds,
        "n_factors": options.factors,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "bytes_per_peer_round": model_bytes(simulator.nodes[0].model_handler),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("gossipy-dfl", "torch", "numpy")},
    }
    (options.folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


def load(path: Path, folder: Path) -> tuple[dict[int, list[tuple[int, float]]], int, int]:
    """By gossipy's own reader, which deletes the folder that it has "downloaded": it gets a copy."""
    unpacked = folder / DATA_SET
    unpacked.mkdir()
    (unpacked / "u.data").write_bytes(path.read_bytes())
    gossipy_data.download_and_unzip = lambda url: [DATA_SET]
    os.chdir(folder)
    loaded: tuple[dict[int, list[tuple[int, float]]], int, int] = gossipy_data.load_recsys_dataset(DATA_SET)
    return loaded


def simulation(data: RecSysDataHandler, n_factors: int, seed: int) -> GossipSimulator:
    """The example's swarm."""
    dispatcher = gossipy_data.RecSysDataDispatcher(data)
    dispatcher.assign()
    graph = random_regular_graph(N_NEIGHBOURS, data.n_users, seed=seed)
    nodes = GossipNode.generate(
        data_dispatcher=dispatcher,
        p2p_net=StaticP2PNetwork(data.n_users, csr_matrix(to_scipy_sparse_array(graph))),
        model_proto=MFModelHandler(
            dim=n_factors,
            n_items=data.n_items,
            lam_reg=0.1,
            learning_rate=0.001,
            create_model_mode=CreateModelMode.MERGE_UPDATE,
        ),
        round_len=ROUND_LEN,
        sync=True,
    )
    simulator = GossipSimulator(
        nodes=nodes,
        data_dispatcher=dispatcher,
        delta=ROUND_LEN,
        protocol=AntiEntropyProtocol.PUSH,
        delay=UniformDelay(0, 10),
        sampling_eval=1 / data.n_users,
    )
    simulator.add_receiver(SimulationReport())
    return simulator


def model_bytes(handler: MFModelHandler) -> int:
    """What a message carries, if it were sent: a copy of the whole model, the sender's own user factor and bias included."""
    (user_factor, _), (item_factors, item_biases) = handler.model
    return int(user_factor.nbytes + np.float64().nbytes + item_factors.nbytes + item_biases.nbytes)


def names(path: Path) -> tuple[Sequence[str], Sequence[str]]:
    """Users and items as gossipy numbers them: in the order of their first appearance."""
    with path.open(encoding="utf-8") as file:
        rows = [line.split("\t")[:2] for line in file]
    return list(dict.fromkeys(user for user, _ in rows)), list(dict.fromkeys(item for _, item in rows))


def write_tests(path: Path, simulator: GossipSimulator, named: tuple[Sequence[str], Sequence[str]]) -> None:
    """Each peer's held-out ratings, and what its own copy of the model predicts for them."""
    users, items = named
    dispatcher: Any = simulator.data_dispatcher
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "rating", "predicted"])
        for number, node in simulator.nodes.items():
            (user_factor, bias), (item_factors, biases) = node.model_handler.model
            predicted = (user_factor @ item_factors.T + bias + biases)[0]
            user = users[dispatcher.assignments[number]]
            writer.writerows([user, items[int(item)], rating, predicted[int(item)]] for item, rating in node.data[1])


if __name__ == "__main__":
    main()
