"""Boxes that guardians keep: opened by a quorum's genuine shares, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from p2prec.model.nearest import encode
from p2prec.peer.escrow_box import seal_contribution, unseal_contribution
from p2prec.peer.inheritance import Trace
from p2prec.peer.private_sum import Share
from p2prec.peer.sum_boxes import Boxes
from p2prec.peer.sum_messages import Enrol, Opened, Sealed, proven
from p2prec.peer.sum_roster import Roster
from p2prec.privacy.escrow import split
from p2prec.types import PeerId, SwarmId

OWN, OWNER, *PARTNERS = (PeerId(f"peer{n:02}") for n in range(20))
KEY, COUNT, THRESHOLD = bytes(range(32)), 70, 5
SHARES = split(KEY, len(PARTNERS), THRESHOLD)
SHARE = Share(encode(np.arange(COUNT, dtype=np.float32), fine=True), 1.0, Trace(1, None, 0))


def forged() -> bool:
    return False


def must_not_be_asked() -> bool:
    raise AssertionError("verified by somebody who has no such box")


@pytest.fixture
def boxes() -> Boxes:
    """Of a peer in a swarm so small that all mask with all."""
    roster = Roster(OWN, SwarmId(bytes(32)), 1, n_people=20)
    for peer in (OWNER, *PARTNERS):
        roster.on_enrol(peer, Enrol(bytes(range(32)), bytes(32)))
    return Boxes(roster, COUNT)


def test_only_guardians_verify_shares(boxes: Boxes) -> None:
    assert boxes.on_opened(PARTNERS[0], Opened(OWNER, 1, SHARES[1]), must_not_be_asked) is None


def test_a_quorum_of_genuine_shares_opens_a_box(boxes: Boxes) -> None:
    boxes.keep(OWNER, Sealed(seal_contribution(KEY, OWNER, SHARE), THRESHOLD))
    for number, partner in enumerate(PARTNERS[: THRESHOLD + 2], 1):
        assert boxes.on_opened(partner, Opened(OWNER, number, bytes(32)), forged) is None
        assert boxes.on_opened(PeerId("stranger"), Opened(OWNER, number, bytes(32)), must_not_be_asked) is None
    given = [
        boxes.on_opened(partner, Opened(OWNER, number, SHARES[number]), proven)
        for number, partner in enumerate(PARTNERS[: THRESHOLD + 1], 1)
    ]
    assert [share is not None for share in given] == [False] * (THRESHOLD - 1) + [True, False]
    opened = given[THRESHOLD - 1]
    assert opened is not None
    assert (opened.weight, opened.trace) == (SHARE.weight, SHARE.trace)
    assert opened.value.levels.dtype == np.int16
    np.testing.assert_array_equal(opened.value.levels, SHARE.value.levels)


def test_a_contribution_of_another_length_stays_closed(boxes: Boxes) -> None:
    longer = Share(encode(np.ones(COUNT + 100, np.float32), fine=True), 1.0, Trace(1, None, 0))
    box = seal_contribution(KEY, OWNER, longer)
    assert unseal_contribution(KEY, OWNER, box, COUNT + 100).weight == 1.0
    boxes.keep(OWNER, Sealed(box, THRESHOLD))
    for number, partner in enumerate(PARTNERS[:THRESHOLD], 1):
        assert boxes.on_opened(partner, Opened(OWNER, number, SHARES[number]), proven) is None
