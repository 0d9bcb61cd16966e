"""To which neighbours floods go: a few, as in the first phase of Plumtree (Leitão, Pereira and Rodrigues 2007, "Epidemic
broadcast trees"), without its second.

Told to all neighbours, everybody hears everything from half of them. So each peer chooses a few, says so, and floods go over
links that either end has chosen, of eight five on average. A random graph in which each has chosen m others stays
connected without any m - 1 of its peers (Fenner and Frieze 1982, "On the connectivity of random m-orientable graphs and
digraphs"). That others have chosen this peer does not spare it a choice of its own: whoever would keep it from hearing something
could choose it first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from p2prec.types import PeerId

FEWEST = 3
"""Neighbours that a peer chooses, if it has as many."""


class Eager:
    """One peer's."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._chosen: set[PeerId] = set()
        self._chosen_by: set[PeerId] = set()
        self.is_due = True
        """Whether this peer has to choose: perhaps it has too few."""

    def met(self) -> None:
        """There is a neighbour more."""
        self.is_due |= len(self._chosen) < FEWEST

    def lost(self, neighbour: PeerId) -> None:
        """The link to a neighbour has ended, and with it what either end had chosen."""
        self.is_due |= neighbour in self._chosen
        self._chosen.discard(neighbour)
        self._chosen_by.discard(neighbour)

    def chosen_by(self, neighbour: PeerId) -> None:
        """A neighbour says that it has chosen this peer."""
        self._chosen_by.add(neighbour)

    def has_chosen(self, neighbour: PeerId) -> bool:
        """What to say to a neighbour."""
        return neighbour in self._chosen

    def choose(self, neighbours: Collection[PeerId]) -> set[PeerId]:
        """Choose some of those who can be reached now, where too few are left. Returns the newly chosen, who have to be told."""
        self.is_due = False
        others = [neighbour for neighbour in neighbours if neighbour not in self._chosen]
        chosen: set[PeerId] = set()
        while len(self._chosen) + len(chosen) < FEWEST and others:
            chosen.add(others.pop(int.from_bytes(self._random_bytes(4), "big") % len(others)))
        self._chosen |= chosen
        return chosen

    def among(self, neighbours: Collection[PeerId]) -> list[PeerId]:
        """To whom floods go, of those who can be reached now."""
        return [neighbour for neighbour in neighbours if neighbour in self._chosen or neighbour in self._chosen_by]
