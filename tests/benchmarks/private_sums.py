"""What protection costs a device in a private sum: python tests/benchmarks/private_sums.py

A sum over the pairs of 230 items (MovieLens-100K at epsilon 8) among 943 people: contributing, and exchanges, each with and
without what privacy adds (noise, masks, keys, escrow; notes of what partners held). And what everybody has to hear from
everybody, which only a sum under masks needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from p2prec.identity import Identity
from p2prec.model.nearest import decode, encode
from p2prec.model.pairs import n_pairs, pair_statistic
from p2prec.peer.private_sum import FINE_EXCHANGES, PrivateSum
from p2prec.peer.sum_messages import Enrol, Relays
from p2prec.privacy.escrow import split
from p2prec.privacy.masks import MaskKey
from p2prec.privacy.plan import MEAN_PARTNERS, PrivacyPlan
from p2prec.privacy.promise import mixing_rounds
from p2prec.privacy.stream import NoiseStream
from p2prec.types import PeerId, SwarmId
from p2prec.wire.seal import Seal
from p2prec.wire.sum_codec import SumCodec

SELECTED, EXCHANGES_A_ROUND, PEOPLE = 230, 2, 943
ROUNDS = mixing_rounds(PEOPLE)
FLOODS = 4 * PEOPLE
"""That a peer hears in a sum, about: who enrols, who contributes, who is dead (docs/research/0003-privacy.md)."""
TIMES_EACH = 4
"""That it hears each of them, from one neighbour after the other."""
ORIGINS = 60
"""Peers whose messages are timed."""


def timed(action: Callable[[], object], times: int) -> float:
    """Milliseconds of the fastest of five batches."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(times):
            action()
        best = min(best, (time.process_time() - started) / times)
    return 1e3 * best


def hearing() -> tuple[float, float]:
    """Milliseconds to check and open a message that is passed on, and to recognise it when it comes again."""
    swarm, codecs = SwarmId(bytes(32)), [SumCodec({1: 1682, 2: n_pairs(SELECTED)}, SELECTED, 1682) for _ in range(6)]
    origins = [Seal(Identity.generate(), swarm, codecs[0]) for _ in range(ORIGINS)]
    enrolled = Relays(tuple(one.seal(None, 1, bytes(8), 32, Enrol(MaskKey().public)) for one in origins))
    payload = codecs[0].encode_relays(enrolled)
    receivers = iter([(codec, Seal(Identity.generate(), swarm, codec)) for codec in codecs[1:]])

    def hear() -> None:
        codec, seal = next(receivers)
        for relayed in codec.decode_relays(payload).relays:
            seal.open(relayed)

    return timed(hear, 1) / ORIGINS, timed(lambda: codecs[-1].decode_relays(payload), 20) / ORIGINS


def main() -> None:
    count, plan = n_pairs(SELECTED), PrivacyPlan.of(8.0, 1e-5, 900).pairs
    swarm, own = SwarmId(bytes(32)), PeerId("own")
    partners = [(PeerId(f"partner{n}"), MaskKey()) for n in range(MEAN_PARTNERS)]
    items, expected = np.arange(0, SELECTED, 3), np.full(SELECTED, 0.1, np.float32)
    statistic = pair_statistic(items, np.arange(SELECTED), expected, SELECTED)

    def contribute() -> PrivateSum:
        key = MaskKey()
        keys = {peer: key.shared(other.public, swarm, 1, own, peer) for peer, other in partners}
        for secret in keys.values():
            split(secret, len(keys) - 1)
        value = PrivateSum(own, count, plan)
        value.contribute(statistic, keys, NoiseStream.private())
        return value

    mine = contribute()
    fine, received = (contribute().contribution(fine=fine) for fine in (True, False))
    values = np.zeros(count, np.float32)

    def plain_exchange() -> None:
        sent = encode(values)
        np.add(values, 0.5 * (decode(received.value, count) - decode(sent, count)), out=values)

    plain = timed(plain_exchange, 20)
    noted = timed(lambda: mine.apply(PeerId("partner0"), mine.outgoing(), received), 20)
    contributing = timed(contribute, 1)
    base = timed(lambda: pair_statistic(items, np.arange(SELECTED), expected, SELECTED), 5)
    rounds = ROUNDS * EXCHANGES_A_ROUND
    print(f"contribution: {base:.2f} ms without, {contributing:.2f} ms with protection")
    print(f"exchange:     {plain:.2f} ms without, {noted:.2f} ms with notes for the dead")
    print(f"a whole sum:  {base + rounds * plain:.0f} ms without, {contributing + rounds * noted:.0f} ms with")
    new, again = hearing()
    heard = FLOODS * (new + (TIMES_EACH - 1) * again)
    print(f"a message that is passed on: {new:.3f} ms when it is new, {again:.3f} ms when it comes again")
    print(f"all that a peer hears in a sum of {PEOPLE}: {heard:.0f} ms, {heard / ROUNDS:.1f} ms a round")
    early, later = fine.value.payload_bytes / count, received.value.payload_bytes / count
    print(f"message:      {early:.3f} bytes a value in the first {FINE_EXCHANGES} exchanges, {later:.3f} afterwards")


if __name__ == "__main__":
    main()
