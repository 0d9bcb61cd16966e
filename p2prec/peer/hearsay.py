"""What others say in a private sum, verified once it matters: most of it never does, to this peer."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from p2prec.peer.sum_messages import Proof, proven
from p2prec.types import PeerId

Subject = TypeVar("Subject", bound=Hashable)
Word = TypeVar("Word")


class Hearsay(Generic[Subject, Word]):
    """One word of each speaker on each subject: its first, unless that was somebody else's. So whoever forges others can neither
    take its place nor fill the memory.
    """

    def __init__(self) -> None:
        self._said: dict[Subject, dict[PeerId, tuple[Word, Proof]]] = {}

    def hear(self, subject: Subject, speaker: PeerId, word: Word, proof: Proof = proven) -> None:
        """proof: verifies that the speaker has said so. Asked for now only if another word of the speaker's comes after this."""
        said = self._said.setdefault(subject, {})
        if not self._is_genuine(said, speaker):
            said[speaker] = word, proof

    def __iter__(self) -> Iterator[Subject]:
        """All subjects."""
        return iter(self._said)

    def n_heard(self, subject: Subject) -> int:
        """How many have said something, genuine or not."""
        return len(self._said.get(subject, ()))

    def speaks(self, speaker: PeerId) -> bool:
        """Whether one has said something on anything, genuine or not."""
        return any(speaker in said for said in self._said.values())

    def on(self, subject: Subject) -> Iterator[tuple[PeerId, Word]]:
        """Who has really said what, each verified when its turn comes: nobody beyond those who are asked for."""
        said = self._said.get(subject, {})
        for speaker in list(said):
            if self._is_genuine(said, speaker):
                yield speaker, said[speaker][0]

    def of(self, subject: Subject, speaker: PeerId) -> Word | None:
        """What this one has really said; None if nothing."""
        said = self._said.get(subject, {})
        return said[speaker][0] if self._is_genuine(said, speaker) else None

    @staticmethod
    def _is_genuine(said: dict[PeerId, tuple[Word, Proof]], speaker: PeerId) -> bool:
        """Whether a speaker has said something; it is forgotten if it was not the speaker."""
        if speaker not in said:
            return False
        word, proof = said[speaker]
        if proof():
            said[speaker] = word, proven
            return True
        del said[speaker]
        return False
