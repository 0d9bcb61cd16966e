"""Fault profiles: files that say what is done to which peers, and what must hold after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from p2prec.errors import UsageError

Share = Annotated[float, Meta(gt=0, le=1)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Cores = Annotated[float, Meta(ge=0.01, le=64)]


class Cpu(Struct, frozen=True, forbid_unknown_fields=True, tag="cpu"):
    """Other CPU limits for a while: each chosen peer gets one of the classes, in turn."""

    cores: Annotated[tuple[Cores, ...], Meta(min_length=1)]
    share: Share = 1.0


class Loss(Struct, frozen=True, forbid_unknown_fields=True, tag="loss"):
    """Each packet that reaches a chosen peer is lost with this probability."""

    probability: Annotated[float, Meta(gt=0, lt=1)]
    share: Share = 1.0


class Delay(Struct, frozen=True, forbid_unknown_fields=True, tag="delay"):
    """Each packet that a chosen peer sends waits. Where the kernel cannot delay (netem), its link is made narrow instead, so that
    packets wait for each other."""

    delay_ms: Annotated[int, Meta(ge=1, le=10_000)]
    jitter_ms: Annotated[int, Meta(ge=0, le=10_000)] = 0
    narrow_kbit: Annotated[int, Meta(ge=8, le=1_000_000)] = 512
    """Bits a second of the narrow link, in thousands."""
    share: Share = 1.0


class Partition(Struct, frozen=True, forbid_unknown_fields=True, tag="partition"):
    """The peers fall into groups that cannot reach each other."""

    groups: Annotated[int, Meta(ge=2, le=16)] = 2


class Kill(Struct, frozen=True, forbid_unknown_fields=True, tag="kill"):
    """Chosen peers are killed without warning and stay away."""

    share: Share


class Restart(Struct, frozen=True, forbid_unknown_fields=True, tag="restart"):
    """All peers are restarted one after the other."""

    every_s: Seconds = 5.0


class Flap(Struct, frozen=True, forbid_unknown_fields=True, tag="flap"):
    """The link of chosen peers goes down and up, again and again."""

    down_s: Seconds
    up_s: Seconds
    share: Share = 1.0


class Clock(Struct, frozen=True, forbid_unknown_fields=True, tag="clock"):
    """Chosen peers are restarted with a wrong clock, by one of the offsets in turn; at the end again, with the right one."""

    offsets_s: Annotated[tuple[Annotated[float, Meta(ge=-2e9, le=2e9)], ...], Meta(min_length=1)]
    share: Share = 0.5


Fault: TypeAlias = Cpu | Loss | Delay | Partition | Kill | Restart | Flap | Clock


class Holds(Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold after the fault, with nobody lending a hand."""

    back_within_s: Seconds = 120.0
    """By then every survivor runs, has neighbours and exchanges again."""
    quality: Annotated[float, Meta(gt=0, le=1)] = 0.98
    """The survivors' NDCG@10 and AUC, as a share of those without the fault."""


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file in deploy/faults."""

    title: str
    fault: Fault
    hold_s: Seconds = 60.0
    """How long the fault lasts. A rolling restart lasts until its last peer."""
    holds: Holds = Holds()


def load_profile(path: Path) -> Profile:
    """Read a profile. Raises UsageError when there is none, with the names of those there are, or when it is wrong."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Profile)
    except FileNotFoundError:
        names = ", ".join(profile_names(path.parent)) or "none"
        raise UsageError(
            f"there is no fault profile {path.stem!r} in {path.parent}", remedy=f"there are: {names}"
        ) from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error


def profile_names(folder: Path) -> list[str]:
    """The profiles in a folder."""
    return sorted(path.stem for path in folder.glob("*.toml"))
