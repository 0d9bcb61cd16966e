"""The exception tree: what went wrong, and whose move it is.

Three branches, because a driver reacts to each differently: `UsageError` is raised to the person or program that called
(exit status 2 in the command line), `RemoteMisbehaviour` costs the sender, `TransportFailure` is retried. `StoreError` is local
too, but nobody's misuse: the disk or the file.
"""

from __future__ import annotations


class P2PRecError(Exception):
    """The root of every error that p2prec raises on purpose."""


class UsageError(P2PRecError):
    """Local misuse or bad local input. The message says what is wrong and, where it can, what to do."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class ManifestError(UsageError):
    """A swarm manifest or an invitation that cannot be read, or contradicts itself."""


class DataError(UsageError):
    """A catalogue or an interaction file that cannot be read at all (single bad rows are reported, not raised)."""


class StateError(UsageError):
    """The state directory is in use, missing, of another swarm, or its permissions are unsafe."""


class StoreError(P2PRecError):
    """The store could not be read or written: disk full, file damaged. Nothing that was acknowledged is lost."""


class RemoteMisbehaviour(P2PRecError):
    """A neighbour broke the protocol. `reason` is one of `p2prec.peer.messages.Refusal`'s reasons."""

    def __init__(self, reason: str, detail: str = "", *, fatal: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.fatal = fatal


class TransportFailure(P2PRecError):
    """The network failed: unreachable, reset, timed out. Retrying later is right."""
