"""The parameters of a swarm that is being made: what is recommended, what was asked for, and whether the two go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from p2prec.manifest import LearningParameters, Manifest, PrivacyParameters

_FORMAL_NOISE = 0.5
"""From here on noise is meant to promise something, and contributions are worth being rare."""
_FORMAL_CONTRIBUTE_EVERY = 60
"""Exchanges that a strongly noised contribution needs before the next one is worth its price."""


def parameters(
    objective: Literal["implicit", "explicit"],
    *,
    n_factors: int | None,
    round_interval_s: float,
    contribute_every_exchanges: int | None,
    noise_multiplier: float | None,
    clip_norm: float | None,
    epsilon_budget: float | None,
) -> tuple[LearningParameters, PrivacyParameters]:
    """The recommended parameters with what was asked for otherwise."""
    import msgspec

    from p2prec.manifest import recommended

    learning, privacy = recommended(objective, n_factors)
    given = {"noise_multiplier": noise_multiplier, "clip_norm": clip_norm, "epsilon_budget": epsilon_budget}
    privacy = msgspec.structs.replace(privacy, **{name: value for name, value in given.items() if value is not None})
    if contribute_every_exchanges is None and privacy.noise_multiplier >= _FORMAL_NOISE:
        contribute_every_exchanges = _FORMAL_CONTRIBUTE_EVERY
    changes = {
        "round_interval_s": round_interval_s,
        "contribute_every_exchanges": contribute_every_exchanges,
    }
    return msgspec.structs.replace(learning, **{k: v for k, v in changes.items() if v is not None}), privacy


def refuse_without_promise(options: dict[str, object]) -> None:
    from p2prec.errors import UsageError

    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} says something about a promise, and none is made", remedy="add --epsilon E")


def validated(manifest: Manifest) -> Manifest:
    """Check the ranges that the manifest's types state (they hold when it is read). Raises UsageError."""
    from p2prec import manifest as manifests
    from p2prec.errors import ManifestError, UsageError

    try:
        return manifests.parse(manifests.dump(manifest))
    except ManifestError as error:
        raise UsageError(f"no such swarm can be made: {error}") from error


def check_budget(manifest: Manifest) -> None:
    """Raises UsageError when the budget would not let anybody contribute even once."""
    from p2prec.errors import UsageError
    from p2prec.privacy.ledger import Budget

    budget = Budget.of(manifest)
    if budget.max_contributions() != 0:
        return
    if manifest.privacy.noise_multiplier == 0:
        raise UsageError(
            "an epsilon budget needs noise: without it nobody could ever contribute",
            remedy="set --noise-multiplier too, 8 for example",
        )
    raise UsageError(
        f"one contribution spends epsilon {budget.epsilon_after(1):.3g}, more than the budget of {budget.limit:g}",
        remedy="raise --noise-multiplier or --epsilon-budget",
    )


def in_parts(learning: LearningParameters, n_items: int) -> LearningParameters:
    """The parameters with as few parts as keep a message small, or the most there may be. Raises UsageError that names what would
    fit."""
    import msgspec

    from p2prec.errors import UsageError
    from p2prec.manifest import MAX_PARTS
    from p2prec.model.quantize import SMALL_MESSAGE_BYTES, table_shapes

    for n_parts in range(1, MAX_PARTS + 1):
        cut = msgspec.structs.replace(learning, n_parts=n_parts)
        if _fits(cut, n_items) and table_shapes(cut, n_items).payload_bytes <= SMALL_MESSAGE_BYTES:
            return cut
    if _fits(cut, n_items):
        return cut
    fewer = next(
        d for d in range(learning.n_factors, 0, -1) if _fits(msgspec.structs.replace(cut, n_factors=d), n_items)
    )
    raise UsageError(
        f"{n_items:,} items with {learning.n_factors} factors do not fit into {MAX_PARTS} messages of 1 MB",
        remedy=f"use --n-factors {fewer} or fewer, or a smaller catalogue",
    )


def _fits(learning: LearningParameters, n_items: int) -> bool:
    from p2prec.errors import UsageError
    from p2prec.wire.codec import Codec

    try:
        Codec(learning, n_items)
    except UsageError:
        return False
    return True
