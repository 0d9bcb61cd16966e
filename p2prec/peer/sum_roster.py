"""Who takes part in a private sum, and with whom a peer masks: enrolment, pairing, and keys left in escrow."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator

from p2prec.peer.escrow_box import Shares, seal, unseal
from p2prec.peer.roll import MAX_ENROLLED
from p2prec.peer.sum_messages import Enrol, Pair, Proof, proven
from p2prec.privacy.escrow import THRESHOLD, split
from p2prec.privacy.masks import PUBLIC_KEY_BYTES, MaskKey, are_partners, partners_among
from p2prec.privacy.plan import COLLUDING, MEAN_PARTNERS, MIN_PARTNERS
from p2prec.types import PeerId, SwarmId

MOST_PARTNERS = 4 * MEAN_PARTNERS
"""More than chance gives: somebody has invented peers to be this one's partners."""
WORD_BYTES = 32
"""Of the word that `Contributes` says, and of the hash that an enrolment commits to."""
CONFIRMED_SHARE = 0.75
"""So many of the partners have to confirm: fewer, and somebody keeps the honest ones away."""


class Roster:
    """One peer's view of who takes part in one sum."""

    def __init__(self, own_id: PeerId, swarm_id: SwarmId, epoch: int, n_people: int) -> None:
        """n_people: the fewest honest people that the plan counts on."""
        self.own_id = own_id
        self._swarm_id, self._epoch, self._n_people = swarm_id, epoch, n_people
        self._key = MaskKey()
        self.word = secrets.token_bytes(WORD_BYTES)
        """What this peer says when it has contributed: `Contributes`."""
        self._enrolled: dict[PeerId, Enrol] = {}
        self._unproven: dict[PeerId, Proof] = {}
        """By participant: the proof of its enrolment, until somebody asks for it."""
        self._confirmed: set[PeerId] = set()
        self._partners_of: dict[PeerId, list[PeerId]] = {}
        """What `partners_of` has found among those who had enrolled by then."""
        self.escrowed: dict[PeerId, dict[PeerId, tuple[int, bytes]]] = {}
        """By owner of a key and the other partner of its mask: number and share, left with this peer."""
        self._letter_keys: dict[PeerId, bytes | None] = {}
        """Of proven partners: what `letter_key` has found."""

    def enrol(self) -> Enrol:
        return Enrol(self._key.public, hashlib.sha256(self.word).digest())

    def on_enrol(self, peer: PeerId, enrol: Enrol, proof: Proof = proven) -> None:
        """Note a participant. The first key counts: a second one could be made to fit what was learned meanwhile. But not if
        the first was somebody else's.

        proof: verifies that the peer has said so. It is asked only if this peer masks with that one, or there are two keys.
        """
        if len(enrol.mask_key) != PUBLIC_KEY_BYTES or peer == self.own_id or enrol == self._enrolled.get(peer):
            return
        if peer in self._enrolled and (self._is_proven(peer) or not proof()):
            return
        if len(self._enrolled) < MAX_ENROLLED:
            self._enrolled[peer], self._unproven[peer] = enrol, proof
            self._partners_of.clear()

    def prove_partners(self) -> None:
        """Verify the enrolments of this peer's partners, whose keys it is about to use; it has none where they are forged."""
        for partner in self.partners:
            self._is_proven(partner)

    def _is_proven(self, peer: PeerId) -> bool:
        """Whether a participant's enrolment is its own; if not, it is dropped."""
        proof = self._unproven.pop(peer, proven)
        if proof():
            return True
        del self._enrolled[peer]
        self._partners_of.clear()
        return False

    def __len__(self) -> int:
        """Participants, this peer included."""
        return len(self._enrolled) + 1

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._enrolled or peer == self.own_id

    def __iter__(self) -> Iterator[PeerId]:
        yield self.own_id
        yield from self._enrolled

    @property
    def partners(self) -> list[PeerId]:
        """Those with whom the public hash pairs this peer, in the order of their ids."""
        return self.partners_of(self.own_id)

    def partners_of(self, other: PeerId) -> list[PeerId]:
        """With whom the public hash pairs another participant, in the order of their ids."""
        if other not in self._partners_of:
            terms = self._swarm_id, self._epoch, other, self, MEAN_PARTNERS, self._n_people
            self._partners_of[other] = sorted(partners_among(*terms))
        return self._partners_of[other]

    @property
    def confirmed(self) -> list[PeerId]:
        return sorted(self._confirmed)

    def has_confirmed(self, peer: PeerId) -> bool:
        return peer in self._confirmed

    def on_pair(self, peer: PeerId, _pair: Pair) -> None:
        """A partner has this peer's key. Ignored from anybody who is none."""
        if self._is_proven_partner(peer):
            self._confirmed.add(peer)

    def keys(self) -> dict[PeerId, bytes]:
        """The mask keys of the confirmed partners; a partner whose public key is none is left out."""
        keys = {}
        for peer in self.confirmed:
            key = self.key_with(peer)
            if key is None:
                self._confirmed.discard(peer)
            else:
                keys[peer] = key
        return keys

    def key_with(self, partner: PeerId) -> bytes | None:
        """The mask key with another participant; None if its public key is none."""
        try:
            return self._in_common(self._key.shared, partner)
        except ValueError:
            return None

    def letter_key(self, partner: PeerId) -> bytes | None:
        """The key that authenticates what this peer and a mask partner say to each other; None of anybody who is no partner, has
        not really enrolled, or whose public key is none.
        """
        if partner not in self._letter_keys:
            # A proven enrolment stays, so the key does. An unproven one is proven now, or gone.
            if not self._is_proven_partner(partner):
                return None
            try:
                self._letter_keys[partner] = self._in_common(self._key.letters, partner)
            except ValueError:
                self._letter_keys[partner] = None
        return self._letter_keys[partner]

    def refusal(self) -> str:
        """Why this peer must not contribute to this sum, in words; "" if it may."""
        partners, confirmed = len(self.partners), len(self._confirmed)
        if len(self) < self._n_people + COLLUDING:
            return f"only {len(self)} peers take part, {self._n_people + COLLUDING} are needed"
        if confirmed < MIN_PARTNERS:
            return f"only {confirmed} mask partners, {MIN_PARTNERS} are needed"
        if partners > MOST_PARTNERS:
            return f"{partners} mask partners: more than chance gives"
        if confirmed < max(CONFIRMED_SHARE * partners, self.quorum(self.own_id)):
            return f"only {confirmed} of {partners} mask partners have confirmed"
        return ""

    # --- escrow ---

    def quorum(self, peer: PeerId) -> int:
        """More than half of a participant's mask partners by the public hash, and of those who collude.

        Of its masks either a quorum says that it never heard of them, and they are taken out; or a quorum opens what it left with
        its guardians. Both cannot be: two quorums have an honest partner in common, and that one does not do both.
        """
        return (len(self.partners_of(peer)) + COLLUDING) // 2 + 1

    def escrow(self, keys: dict[PeerId, bytes], box_key: bytes) -> dict[PeerId, bytes]:
        """What to leave with each partner, encrypted to it: a share of each other partner's key, and, under the own id, one of
        the key to what guardians have. Asked once in a sum.

        keys: as `keys` gave them.
        """
        shares: dict[PeerId, Shares] = {holder: {} for holder in keys}
        for partner, key in keys.items():
            holders = [holder for holder in keys if holder != partner]
            if len(holders) < THRESHOLD:
                continue
            for number, share in split(key, len(holders)).items():
                shares[holders[number - 1]][partner] = (number, share)
        for number, share in split(box_key, len(keys), self.quorum(self.own_id)).items():
            shares[list(keys)[number - 1]][self.own_id] = (number, share)
        return {holder: seal(self._sealing(holder), self.own_id, holder, held) for holder, held in shares.items()}

    def on_escrow(self, owner: PeerId, sealed: bytes) -> None:
        """Keep a partner's shares. Ignored a second time, from anybody who is none, and if they cannot be opened."""
        if owner not in self._confirmed or owner in self.escrowed:  # said again, since the answer was lost
            return
        try:
            shares = unseal(self._sealing(owner), owner, self.own_id, sealed, MOST_PARTNERS + 1)
        except ValueError:
            return
        self.escrowed[owner] = shares

    def are_partners(self, one: PeerId, other: PeerId) -> bool:
        """Whether two participants mask each other, by the public hash."""
        return one in self and other in self and self._are_partners(one, other)

    def _sealing(self, partner: PeerId) -> bytes:
        return self._in_common(self._key.sealing, partner)

    def _in_common(self, derive: Callable[[bytes, SwarmId, int, PeerId, PeerId], bytes], partner: PeerId) -> bytes:
        """The key that a method of `MaskKey` makes with another participant. Raises ValueError if its public key is none."""
        return derive(self._enrolled[partner].mask_key, self._swarm_id, self._epoch, self.own_id, partner)

    def _is_proven_partner(self, peer: PeerId) -> bool:
        return peer in self._enrolled and self._is_partner(peer) and self._is_proven(peer)

    def _is_partner(self, peer: PeerId) -> bool:
        return self._are_partners(self.own_id, peer)

    def _are_partners(self, one: PeerId, other: PeerId) -> bool:
        return are_partners(self._swarm_id, self._epoch, one, other, MEAN_PARTNERS, self._n_people)
