"""The elementwise parts of `p2prec.model.step`, to the bit; its matrix products and eigenvectors stay numpy's."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2prec.lab.compiled.machine import compiled
from p2prec.lab.compiled.stack import StackedStates
from p2prec.manifest import LearningParameters
from p2prec.model.contribution import EVIDENCE_WEIGHT
from p2prec.model.rounding import MAX_MAGNITUDE
from p2prec.model.state import AVERAGED_ROUNDS, AVERAGED_ROUNDS_AT_MOST, AVERAGED_SHARE, PROBE_WIDTH
from p2prec.model.step import SMALLEST_SWARM
from p2prec.types import FloatArray, IndexArray

_LARGEST, _EVIDENCE_WEIGHT = np.float32(MAX_MAGNITUDE), np.float32(EVIDENCE_WEIGHT)


class Steps:
    """Steps of up to `at_once` peers, and the memory that they take. For one thread."""

    def __init__(self, parameters: LearningParameters, states: StackedStates, swarm_size: float, at_once: int) -> None:
        self._parameters, self._states = parameters, states
        self._size = max(swarm_size, SMALLEST_SWARM)
        self._penalty = np.float32(parameters.reg) / np.float32(self._size)
        n_columns, n_items = states.item_factors.shape[1:]
        self._first, self._second = np.empty((2, at_once, n_columns, n_items), np.float32)
        self._gram = np.empty((at_once, n_columns, n_columns), np.float32)
        self._unmixed, self._rate = np.empty((2, at_once), np.float32)

    def take(self, peers: IndexArray) -> IndexArray:
        """`step` of each of these, which are distinct. Returns those whose numbers broke."""
        parameters, states, n = self._parameters, self._states, len(peers)
        explicit = parameters.objective == "explicit"
        gram, unmixed, rate = self._gram[:n], self._unmixed[:n], self._rate[:n]
        _average(states.item_factors, states.average, states.age, peers)
        _weights(
            states.probe,
            states.age,
            peers,
            self._size,
            np.float32(parameters.evidence_floor),
            parameters.learning_rate,
            parameters.learning_rate_decay_rounds,
            parameters.learning_rate_floor,
            unmixed,
            rate,
        )
        _symmetric(states.gram, peers, explicit, gram)
        curvature, vectors = np.linalg.eigh(gram)
        direction = self._explicit if explicit else self._implicit
        towards, moved = direction(peers, curvature, np.swapaxes(vectors, -1, -2))
        np.matmul(vectors, towards, out=moved)
        broken = np.zeros(n, np.bool_)
        _move(states.item_factors, states.age, peers, moved, broken)
        return peers[broken]

    def _explicit(self, peers: IndexArray, curvature: FloatArray, turn: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The direction along the eigenvectors times the rate, and memory of its shape."""
        states, n = self._states, len(peers)
        pulled, towards = self._first[:n], self._second[:n]
        _pull(states.item_factors, states.gradient, peers, self._penalty, pulled)
        np.matmul(turn, pulled, out=towards)
        damping = np.float32(self._parameters.damping)
        _divide_explicit(states.evidence, peers, self._penalty, damping, curvature, self._unmixed, self._rate, towards)
        return towards, pulled

    def _implicit(self, peers: IndexArray, curvature: FloatArray, turn: FloatArray) -> tuple[FloatArray, FloatArray]:
        """As `_explicit`."""
        states, n = self._states, len(peers)
        towards, factors = self._first[:n], self._second[:n]
        for at, peer in enumerate(peers.tolist()):
            np.matmul(turn[at], states.gradient[peer], out=towards[at])
            np.matmul(turn[at], states.item_factors[peer], out=factors[at])
        alpha0 = np.float32(self._parameters.alpha0)
        damping = max(np.float32(self._parameters.damping), self._penalty)
        _divide_implicit(
            states.evidence,
            peers,
            self._penalty,
            alpha0,
            damping,
            curvature,
            self._unmixed,
            self._rate,
            factors,
            towards,
        )
        return towards, factors


@compiled()
def _average(item_factors: Any, average: Any, age: Any, peers: Any) -> None:
    """`average_in`."""
    for peer in peers:
        wanted = min(max(AVERAGED_SHARE * age[peer], float(AVERAGED_ROUNDS)), float(AVERAGED_ROUNDS_AT_MOST))
        weight = np.float32(1.0 / min(age[peer] + 1.0, wanted))
        for column in range(item_factors.shape[1]):
            now, mean = item_factors[peer, column], average[peer, column]
            for row in range(len(now)):
                mean[row] += weight * (now[row] - mean[row])


@compiled()
def _weights(
    probe: Any,
    age: Any,
    peers: Any,
    size: float,
    evidence_floor: Any,
    rate: float,
    decay: float,
    floor: float,
    unmixed: Any,
    rates: Any,
) -> None:
    """`mixing` times the evidence floor, and `learning_rate`."""
    sums = np.empty(8, np.float64)
    for at in range(len(peers)):
        peer = peers[at]
        # numpy adds up sixteen numbers in this order.
        for lane in range(8):
            sums[lane] = float(probe[peer, lane] * probe[peer, lane])
            for further in range(lane + 8, PROBE_WIDTH, 8):
                sums[lane] += float(probe[peer, further] * probe[peer, further])
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
        variance = min(max(total / PROBE_WIDTH, 1.0 / size), 1.0)
        unmixed[at] = evidence_floor * np.float32(variance)
        rates[at] = np.float32(rate * max(1.0 / (1.0 + age[peer] / decay), floor))


@compiled()
def _symmetric(grams: Any, peers: Any, normalized: bool, symmetric: Any) -> None:
    """What `_curvature` decomposes."""
    n = grams.shape[1]
    for at in range(len(peers)):
        gram = grams[peers[at]]
        last = max((gram[n - 1, n - 1] + gram[n - 1, n - 1]) * np.float32(0.5), np.float32(1e-6))
        for one in range(n):
            for other in range(n):
                mean = (gram[one, other] + gram[other, one]) * np.float32(0.5)
                symmetric[at, one, other] = mean / last if normalized else mean


@compiled()
def _pull(item_factors: Any, gradient: Any, peers: Any, penalty: Any, pulled: Any) -> None:
    for at in range(len(peers)):
        for column in range(item_factors.shape[1]):
            factor, towards = item_factors[peers[at], column], gradient[peers[at], column]
            result = pulled[at, column]
            for row in range(len(result)):
                result[row] = towards[row] - penalty * factor[row]


@compiled()
def _touched_share(evidence: Any) -> Any:
    return (np.float32(0) if evidence <= 0 else evidence) / _EVIDENCE_WEIGHT


@compiled()
def _divide_explicit(
    evidence: Any, peers: Any, penalty: Any, damping: Any, curvatures: Any, unmixed: Any, rates: Any, towards: Any
) -> None:
    """The second half of `_explicit_direction`, times the rate."""
    for at in range(len(peers)):
        touched, more, rate = evidence[peers[at]], unmixed[at], rates[at]
        for column in range(towards.shape[1]):
            curvature = max(curvatures[at, column], np.float32(0)) + damping
            direction = towards[at, column]
            for row in range(len(direction)):
                weight = _touched_share(touched[row]) + more
                direction[row] = direction[row] / (weight * curvature + penalty) * rate


@compiled()
def _divide_implicit(
    evidence: Any,
    peers: Any,
    penalty: Any,
    alpha0: Any,
    damping: Any,
    curvatures: Any,
    unmixed: Any,
    rates: Any,
    factors: Any,
    towards: Any,
) -> None:
    """`_implicit_direction` of turned factors and gradients, times the rate."""
    for at in range(len(peers)):
        touched, more, rate = evidence[peers[at]], unmixed[at], rates[at]
        for column in range(towards.shape[1]):
            curvature = max(curvatures[at, column], np.float32(0))
            pull, damped = alpha0 * curvature, curvature + damping
            factor, direction = factors[at, column], towards[at, column]
            for row in range(len(direction)):
                weight = _touched_share(touched[row]) + alpha0
                pulled = direction[row] - (penalty * weight + pull) * factor[row]
                direction[row] = pulled / (weight + more) / damped * rate


@compiled()
def _move(item_factors: Any, age: Any, peers: Any, by: Any, broken: Any) -> None:
    for at in range(len(peers)):
        peer = peers[at]
        beyond = 0
        for column in range(item_factors.shape[1]):
            factor, change = item_factors[peer, column], by[at, column]
            for row in range(len(factor)):
                factor[row] += change[row]
            for row in range(len(factor)):
                beyond += not abs(factor[row]) <= _LARGEST
        broken[at] = beyond > 0
        age[peer] += 1.0
