"""What a daemon's process loads over its first rounds: every module here is memory that a device carries for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys

SCRIPT = """
import json, sys
import numpy as np
from p2prec.cli import lean
lean.import_all()
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.peer.learner import Learner
from p2prec.peer.quality import alone_scores, measure
keys, seed, rng = [str(item) for item in range(50)], bytes(32), np.random.default_rng(0)
learner = Learner(LearningParameters(n_factors=4), PrivacyParameters(noise_multiplier=0.1), keys, seed)
learner.set_interactions(np.arange(20), np.ones(20, np.float32))
for _ in range(2):
    learner.solve()
    learner.contribute(rng)
    sent = learner.outgoing(0, rng)
    learner.apply(sent, sent, 1.0)
    learner.step()
measure(learner, np.arange(20, 30), alone_scores(learner, keys, seed))
learner.recommend(10)
learner.explain(40)
print(json.dumps(sorted(sys.modules)))
"""
NOT_FOR_DEVICES = {
    "numpy.ma": "7 MB: np.unique imports it",
    "numpy.fft": "",
    "numpy.polynomial": "",
    "numpy.testing": "",
    "unittest": "",
    "platformdirs": "where state and cache lie is known when the daemon starts",
    "difflib": "for people who misspell titles",
    "typer": "the command line's (p2prec.cli.serve replaces its process)",
    "rich": "",
    "pandas": "the demo's",
    "torch": "the lab's",
    "prometheus_client": "6 MB: only with --metrics",
    "p2prec.daemon.promise": "2 MB with what it takes along: only in swarms with a promise",
    "p2prec.peer.private_peer": "",
    "p2prec.peer.private_sum": "",
    "p2prec.wire.sum_codec": "",
    "p2prec.api.promise": "",
    "p2prec.lab": "",
    "p2prec.demo": "",
}


def test_a_daemon_loads_nothing_that_it_does_not_need() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, capture_output=True, timeout=60)
    assert not set(json.loads(run.stdout)) & set(NOT_FOR_DEVICES)
