"""The swarm manifest: everything that the peers of one swarm must agree on, in one TOML file that is all a newcomer
needs.

The swarm id is the SHA-256 of the manifest's canonical form, so peers that would not learn the same thing never mix.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import tomllib
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgpack
import msgspec
import tomli_w
from msgspec import Meta, Struct

from p2prec.errors import ManifestError
from p2prec.types import SwarmId

MAX_MANIFEST_BYTES = 32 << 20
MAX_CATALOGUE_BYTES = 64 << 20
MAX_PARTS = 64

PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class LearningParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the swarm learns (docs/algorithm.md). Changing any of them makes another swarm."""

    objective: Literal["implicit", "explicit"] = "implicit"
    n_factors: Annotated[int, Meta(ge=1, le=256)] = 16
    """Latent factors d. More fit more taste, cost bytes in proportion, and need more people to learn."""
    round_interval_s: Annotated[float, Meta(ge=0.05, le=86400)] = 10.0
    """Seconds between a peer's rounds. Shorter learns sooner, and costs traffic and CPU in proportion."""
    contribute_every_exchanges: Annotated[int, Meta(ge=1, le=20000)] = 14
    """Exchanges between a peer's own contributions, two a round when all goes well: one begun, one answered. Privacy is spent
    per contribution; mixing in between is free."""
    factors_per_byte: Literal[1, 2, 3, 4] = 3
    """How many entries of Q share a byte on the wire: with 1, 2, 3 or 4 they have 256, 16, 6 or 4 levels."""
    gradients_per_byte: Literal[1, 2, 3, 4] = 4
    """The same of S, whose rounding is averaged away by many steps."""
    n_parts: Annotated[int, Meta(ge=1, le=MAX_PARTS)] = 1
    """The item tables travel in so many messages a round, each to a neighbour of its own: what makes a message small."""
    momentum: Fraction = 0.8
    """beta: the share of its author's last contributions that a new one leaves standing."""
    learning_rate: PositiveFloat = 1.0
    learning_rate_decay_rounds: PositiveFloat = 100.0
    """The step size falls as 1 / (1 + age / decay), age in rounds, down to `learning_rate_floor` of itself."""
    learning_rate_floor: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Larger follows new tastes sooner; smaller averages more noise away."""
    reg: NonNegativeFloat = 20.0
    """L2 weight of an item row, in people: next to the mean over the swarm's n peers it weighs reg / n. Implicit:
    times the share of peers that touch the item plus alpha0."""
    user_reg: PositiveFloat = 0.005
    """L2 weight of a user factor: per item of the history, unobserved ones counted alpha0 (implicit), in ratings
    (explicit). Implicit: the product with `reg` decides how much is shrunk, their ratio only how large user factors
    are next to item factors: large ones make gradients that stand out of the noise."""
    alpha0: NonNegativeFloat = 0.25
    """Implicit only: weight of an unobserved pair (iALS: Rendle et al. 2021, eq. 4)."""
    recency_interactions: PositiveFloat = 3.0
    """Implicit only: how many interactions back the weight of a device's own history falls to 1/e when it predicts what comes
    next. Smaller follows the moment; larger, the long taste."""
    recency_floor: Annotated[float, Meta(ge=0, le=1)] = 0.02
    """Implicit only: what the oldest interactions still count then, next to 1 for the newest. 1: all count alike."""
    segment_interactions: Annotated[int, Meta(ge=1, le=100_000)] = 40
    """Implicit only: a history is contributed in stretches of about so many interactions, each with the taste of its time.
    Smaller learns what goes together in time; larger, who likes what."""
    segment_floor: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Implicit only: what the rest of the history counts in the taste of a stretch. 1: there is one taste for all."""
    damping: PositiveFloat = 0.1
    """Added to the curvature that a step divides by. Larger forgives more noise, and learns later."""
    evidence_floor: NonNegativeFloat = 40.0
    """Added to an item's evidence before dividing by it, times how unmixed the accumulators are (`p2prec.model.step`): in a
    well mixed swarm, so many people. Larger damps rare items, and steps less on few people's word."""
    init_scale: PositiveFloat = 0.05
    """Standard deviation of the common initial item factors."""


class PrivacyParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is done to a contribution before it leaves (docs/algorithm.md#privacy)."""

    clip_norm: PositiveFloat = 6.0
    """C: the largest L2 norm of one contribution to the item rows (s_u, w_u)."""
    gram_clip_norm: PositiveFloat = 5.0
    """The largest Frobenius norm of one contribution p p' (explicit: (p, 1) (p, 1)')."""
    noise_multiplier: NonNegativeFloat = 0.0
    """Standard deviation of the Gaussian noise on a contribution, as a multiple of the clip norms."""
    max_items_per_contribution: Annotated[int, Meta(ge=1, le=100000)] = 100
    """A contribution touches at most this many of the peer's items, sampled afresh each time."""
    delta: Annotated[float, Meta(gt=0, lt=0.1)] = 1e-5
    epsilon_budget: PositiveFloat | None = None
    """The peer stops contributing (and goes on receiving) before it would spend more. None: no limit is set."""


CIRCLE_NOISE = 0.005
"""A noise multiplier for people who know each other: it blurs single contributions, costs a few per cent of the quality among a
hundred people, and promises nothing formal."""


FEW_FACTORS = 48
"""With more, six and four levels a value cost quality: one scale serves a row, and the weak factors drown in its rounding
(docs/research/0004-learning-core.md, "Many factors want finer levels")."""


def recommended(
    objective: Literal["implicit", "explicit"], n_factors: int | None = None
) -> tuple[LearningParameters, PrivacyParameters]:
    """Where a new swarm should start from: what worked from 20 to 1,000 people, on films and in a shop
    (docs/research/0001-small-swarms.md).

    Ratings are sparse evidence about their own scale: they need a penalty on the user side that is counted in ratings, and
    their errors add up to larger contributions, under as much noise as those of implicit feedback. An item's bias is several
    times its factors, so a row of both wants finer levels.
    """
    given: dict[str, Any] = {} if n_factors is None else {"n_factors": n_factors}
    if objective == "explicit":
        learning = LearningParameters(
            objective="explicit",
            reg=10.0,
            user_reg=10.0,
            contribute_every_exchanges=16,
            momentum=0.5,
            learning_rate_decay_rounds=30.0,
            learning_rate_floor=0.1,
            factors_per_byte=2,
            gradients_per_byte=2,
            **given,
        )
        noise = CIRCLE_NOISE / 5.0
        return learning, PrivacyParameters(clip_norm=10.0, noise_multiplier=noise, max_items_per_contribution=1000)
    learning = LearningParameters(**given)
    if learning.n_factors > FEW_FACTORS:
        learning = msgspec.structs.replace(learning, factors_per_byte=2, gradients_per_byte=2)
    return learning, PrivacyParameters(noise_multiplier=CIRCLE_NOISE)


class Promise(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """User-level (epsilon, delta)-differential privacy, kept by two private sums (docs/decisions/0008-two-private-sums.md,
    protocols/privacy-v8.md).

    In a swarm with a promise nothing else leaves a device that depends on its person: no contribution of the ordinary kind.
    Sum 1 is the popularity vote, sum 2 the pair statistic. All `_s` are seconds. Bounds are those of `p2prec.privacy.plan`, which
    checks them again; what lies outside is refused, never approximated.
    """

    protocol: Literal[8] = 8
    """Version of the private sums (protocols/privacy-v8.md). Part of the swarm id, so swarms of another version are others."""
    epsilon: Annotated[float, Meta(gt=0, le=20)]
    delta: Annotated[float, Meta(gt=0, lt=0.1)] = 1e-5
    """Below 1 / n_people."""
    n_people: Annotated[int, Meta(ge=50, le=100_000)]
    """The fewest honest people over which a sum is made. With fewer participants than this and the three who may collude,
    everybody sits out."""
    start: Annotated[int, Meta(ge=0, le=1 << 40)]
    """When the first sum begins: seconds since 1970, UTC."""
    second_after_s: Annotated[float, Meta(gt=0, le=1e8)]
    """From the start of sum 1 to that of sum 2: time enough to mix the first again, should it be void."""
    enrol_s: Annotated[float, Meta(gt=0, le=1e7)]
    """After a sum's start: who takes part is settled, mask partners confirm."""
    contribute_s: Annotated[float, Meta(gt=0, le=1e7)]
    """After a sum's start: contributions enter, mixing begins."""
    recover_s: Annotated[float, Meta(gt=0, le=1e7)]
    """After a sum's start: masks of those who never appeared are taken out."""
    end_s: Annotated[float, Meta(gt=0, le=1e7)]
    """After a sum's start: its result counts, or is void and mixed again for `again_s`."""
    exchange_s: Annotated[float, Meta(ge=0.05, le=86400)] = 10.0
    """Between exchanges that a peer begins."""
    notice_s: Annotated[float, Meta(gt=0, le=86400)] = 10.0
    """Until claims and notices have reached everybody."""
    answer_s: Annotated[float, Meta(gt=0, le=86400)] = 10.0
    """Wait for an answer."""

    def __post_init__(self) -> None:
        """Raises ValueError (in a manifest that is read: ManifestError)."""
        if not self.delta * self.n_people < 1:
            raise ValueError(f"a promise's delta must be below 1/{self.n_people}, one over its people")
        if not self.enrol_s < self.contribute_s < self.recover_s < self.recover_s + 2 * self.notice_s < self.end_s:
            raise ValueError(
                "the phases of a private sum follow one another: enrol, contribute, recover (and two notices), end"
            )
        if self.second_after_s < self.end_s + self.again_s:
            raise ValueError("the second sum of a promise begins before the first could be mixed again")

    @property
    def again_s(self) -> float:
        """How long a void sum is mixed again, after its end."""
        return self.end_s - self.contribute_s

    def start_of(self, number: int) -> float:
        """When a sum begins, 1 or 2: seconds since 1970, UTC."""
        return self.start + (number - 1) * self.second_after_s

    def end_of(self, number: int) -> float:
        """When a sum's result is final at the latest, mixed again or not: seconds since 1970, UTC."""
        return self.start_of(number) + self.end_s + self.again_s


class CatalogueReference(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The items of the swarm: compressed into the manifest, so that one file is all it takes to join."""

    digest: Hex32
    """SHA-256 of the catalogue's canonical CSV (UTF-8; header `item,title`; one row an item, in model order)."""
    n_items: Annotated[int, Meta(ge=1, le=1_000_000)]
    data: str
    """Base64 of the zlib-compressed canonical CSV. Not part of the swarm id: the digest is."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One swarm. Made by `create`, read by `load`; `swarm_id` names it."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    catalogue: CatalogueReference
    seed: Hex32
    """Public randomness of this swarm: the common start of every peer's item factors is derived from it."""
    format: Literal[3] = 3
    protocol: Literal[3] = 3
    membership_key: Hex32 | None = None
    """Ed25519 public key that certifies the members of a private swarm. None: anyone with the manifest may join."""
    learning: LearningParameters = LearningParameters()
    privacy: PrivacyParameters = PrivacyParameters()
    promise: Promise | None = None
    """None: the swarm trains step by step, and `privacy` says what is done to contributions. Otherwise `learning` (but for its
    objective and round interval) and `privacy` have no effect."""

    def __post_init__(self) -> None:
        """Raises ValueError (in a manifest that is read: ManifestError)."""
        if self.promise is not None and self.learning.objective != "implicit":
            raise ValueError("a promise is for implicit feedback: there are no private sums of ratings")

    @property
    def is_private(self) -> bool:
        return self.membership_key is not None

    @property
    def swarm_id(self) -> SwarmId:
        """SHA-256 over the msgpack of the manifest without `catalogue.data`, and without `promise` where there is none: maps with
        keys sorted, floats as float64.
        """
        fields = msgspec.to_builtins(self)
        del fields["catalogue"]["data"]
        if self.promise is None:
            del fields["promise"]
        return SwarmId(hashlib.sha256(msgpack.packb(_sorted(fields), use_bin_type=True)).digest())

    def catalogue_csv(self) -> bytes:
        """The catalogue's canonical CSV, verified against its digest. Raises ManifestError."""
        try:
            inflate = zlib.decompressobj()
            text = inflate.decompress(base64.b64decode(self.catalogue.data, validate=False), MAX_CATALOGUE_BYTES)
        except (zlib.error, binascii.Error) as error:
            raise ManifestError(f"the catalogue inside the manifest is damaged ({error})") from error
        if inflate.unconsumed_tail:
            raise ManifestError(f"the catalogue inside the manifest is larger than {MAX_CATALOGUE_BYTES >> 20} MB")
        if hashlib.sha256(text).hexdigest() != self.catalogue.digest:
            raise ManifestError("the catalogue inside the manifest does not match its digest")
        return text


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value


def reference_catalogue(canonical_csv: bytes, n_items: int) -> CatalogueReference:
    """Compress a canonical catalogue (`p2prec.data.catalogue`) for embedding in a manifest."""
    packed = base64.b64encode(zlib.compress(canonical_csv, 9)).decode()
    lines = "\n".join(packed[i : i + 120] for i in range(0, len(packed), 120))
    return CatalogueReference(digest=hashlib.sha256(canonical_csv).hexdigest(), n_items=n_items, data=f"\n{lines}\n")


def dump(manifest: Manifest) -> str:
    """The manifest as TOML text that `parse` reads back to an equal manifest."""
    fields = {key: value for key, value in _without_none(msgspec.to_builtins(manifest)).items() if key != "catalogue"}
    fields["catalogue"] = _without_none(msgspec.to_builtins(manifest.catalogue))
    head = (
        f"# p2prec swarm manifest. Swarm id: {manifest.swarm_id.hex()}\n"
        "# Every peer of the swarm has this same file. Changing any value but `catalogue.data`'s layout makes another swarm.\n\n"
    )
    return head + tomli_w.dumps(fields, multiline_strings=True)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def parse(text: str) -> Manifest:
    """Read TOML text. Raises ManifestError that names the field at fault."""
    try:
        return from_fields(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"not valid TOML: {error}") from error


def from_fields(fields: dict[str, Any]) -> Manifest:
    """Validate the fields of a parsed TOML manifest. Raises ManifestError that names the field at fault."""
    try:
        return msgspec.convert(fields, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(
            str(error), remedy="make a new one with: p2prec swarm create NAME --catalogue FILE"
        ) from error


def load(path: Path) -> Manifest:
    """Read a manifest file. Raises ManifestError that says what to do."""
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ManifestError(f"{path}: larger than {MAX_MANIFEST_BYTES >> 20} MB, so not a swarm manifest")
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: no such file", remedy="make one with: p2prec swarm create NAME --catalogue FILE"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from error
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}", remedy=error.remedy) from error
