"""Clipping, noise and `absorb` in one go over the tables: `p2prec.peer.learner` `Learner.contribute`, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2prec.lab.compiled.machine import compiled
from p2prec.lab.compiled.stack import StackedStates
from p2prec.model.contribution import STANDING, accumulator_memory, draw_probe
from p2prec.peer.learner import Learner
from p2prec.privacy.clip import clip_factor
from p2prec.privacy.noise import gaussian
from p2prec.types import DoubleArray, FloatArray


def contribute(learner: Learner, states: StackedStates, peer: int, rng: np.random.Generator) -> None:
    """What `learner`, whose state is number `peer`, does when it is due."""
    own, privacy = learner.own_contribution(rng), learner.privacy
    factor = float(clip_factor((own.gradient, own.evidence), privacy.clip_norm))
    gram_factor = float(clip_factor((own.gram,), privacy.gram_clip_norm))
    keep = accumulator_memory(learner.parameters, learner.state)

    def noise(like: FloatArray) -> DoubleArray:
        return gaussian(like.size, rng) if privacy.noise_multiplier > 0 else np.empty(0)

    std, gram_std = (privacy.noise_multiplier * norm for norm in (privacy.clip_norm, privacy.gram_clip_norm))
    gradient = np.swapaxes(own.gradient, -1, -2)
    _blend(states.gradient[peer], states.own_gradient[peer], gradient, factor, noise(gradient), std, keep.gradient)
    evidence = states.evidence[peer, None]
    _blend(evidence, states.own_evidence[peer, None], own.evidence[None], factor, noise(evidence), std, keep.evidence)
    gram = states.gram[peer].reshape(1, -1)
    _blend(
        gram,
        states.own_gram[peer].reshape(1, -1),
        own.gram.reshape(1, -1),
        gram_factor,
        noise(gram),
        gram_std,
        keep.gram,
    )
    probe = states.probe[peer, None]
    _blend(probe, states.own_probe[peer, None], draw_probe(rng)[None], 1.0, np.empty(0), 0.0, keep.probe)
    states.contributions[peer] += 1.0
    learner.postpone_contribution()


_ROWS_AT_ONCE = 64
"""Noise lies row by row, tables factor by factor: so many rows of it stay in the nearest cache."""


@compiled()
def _blend(accumulator: Any, last: Any, new: Any, factor: float, noise: Any, std: float, keep: float) -> None:
    """accumulator, last, new: (n_columns, n_rows); noise: n_rows * n_columns numbers row by row, or none."""
    n_columns, n_rows = accumulator.shape
    gain, noisy = np.float32(1.0 - keep), len(noise) > 0
    standing, fading = np.float32(STANDING), np.float32(1.0 - STANDING)
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        for column in range(n_columns):
            for row in range(start, min(start + _ROWS_AT_ONCE, n_rows)):
                value = np.float32(float(new[column, row]) * factor)
                if noisy:
                    value = np.float32(float(value) + noise[row * n_columns + column] * std)
                before, others = last[column, row], accumulator[column, row]
                accumulator[column, row] = others + gain * (value - (standing * before + fading * others))
                last[column, row] = before + gain * (value - before)
