"""When a peer contributes and how far it steps: from what it sees itself, since a live swarm has no last round."""

from __future__ import annotations

import numpy as np

from p2prec.manifest import LearningParameters


def learning_rate(parameters: LearningParameters, age: float | np.ndarray) -> np.ndarray:
    """`lr / (1 + age / decay)`, never below `floor * lr`; age in rounds, any shape."""
    shrink = 1.0 / (1.0 + np.asarray(age, np.float64) / parameters.learning_rate_decay_rounds)
    return np.asarray(parameters.learning_rate * np.maximum(shrink, parameters.learning_rate_floor))


def rounds_between_contributions(parameters: LearningParameters) -> int:
    """With one exchange begun and one answered a round; for models that exchange nothing."""
    return max(1, parameters.contribute_every_exchanges // 2)
