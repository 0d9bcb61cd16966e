"""What an experiment is: everything that decides its result, validated, as the reports repeat it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from p2prec.errors import UsageError
from p2prec.lab.backend import PATTERN as BACKEND_PATTERN
from p2prec.lab.topology import DEGREE
from p2prec.manifest import LearningParameters, PrivacyParameters, recommended

MAX_SIMULATED_PEERS = 1000
"""`--engine peers` signs, packs, carries and checks every message of every peer."""


class LabConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One experiment. Make it by `config_from`, which checks what the types cannot."""

    data: Annotated[str, Meta(min_length=1)]
    """A folder or file, the name of a folder in the data directory, or `movielens-small`."""
    objective: Literal["implicit", "explicit"] = "implicit"
    split: Annotated[str, Meta(min_length=1)] = "last"
    """`last`, `random`, `random-one`, or a test file (`p2prec.lab.splits`)."""
    peers: Annotated[int, Meta(ge=2)] | None = None
    """People who take part, drawn at random. None: all."""
    rounds: Annotated[int, Meta(ge=1, le=100_000)] = 100
    seed: Annotated[int, Meta(ge=0)] = 0
    topology: Literal["random", "ring", "smallworld", "torus", "friends"] = "random"
    degree: Annotated[int, Meta(ge=1, le=1000)] = DEGREE
    """Neighbours that a peer picks; the torus has four whatever this says."""
    drop: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Probability that a message is lost."""
    online: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of the peers that is there at any time."""
    engine: Literal["kernels", "peers"] = "kernels"
    """Learners with nothing between them, or the daemon's own peers on a simulated network: the same result, to the bit."""
    backend: Annotated[str, Meta(pattern=BACKEND_PATTERN)] = "auto"
    """What computes the kernels: `auto`, `numpy`, `numba`, `torch` or `torch:DEVICE` (`p2prec.lab.backend`)."""
    measure_every: Annotated[int, Meta(ge=1)] | None = None
    """Rounds between measurements on the way. None: ten in all."""
    epsilon: Annotated[float, Meta(gt=0, le=20)] | None = None
    """Learn with this promise for each person's whole history (`p2prec.lab.private_run`). None: as the parameters say."""
    crash: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    """With epsilon: share of the peers that crash in each of both sums."""
    learning: dict[str, Any] = {}
    """Learning parameters that differ from `p2prec.manifest.recommended`; unless the split is `last`, all interactions count
    alike (`recency_floor` 1)."""
    privacy: dict[str, Any] = {}
    """Privacy parameters that differ from `p2prec.manifest.recommended`."""

    @property
    def swarm_seed(self) -> bytes:
        """What the manifest's seed would be: the common start follows from it."""
        return hashlib.sha256(f"p2prec lab {self.seed}".encode()).digest()

    def learning_parameters(self) -> LearningParameters:
        """Raises UsageError that names the field at fault."""
        n_factors = self.learning.get("n_factors")
        # What is no number is refused below.
        learning, _ = recommended(self.objective, n_factors if isinstance(n_factors, int) else None)
        defaults = msgspec.to_builtins(learning)
        if self.split != "last":
            defaults["recency_floor"] = 1.0  # the question is not what comes next
        fields = {**defaults, **self.learning, "objective": self.objective}
        converted: LearningParameters = _converted(fields, LearningParameters, "learning")
        return converted

    def privacy_parameters(self) -> PrivacyParameters:
        """Raises UsageError that names the field at fault."""
        fields = {**msgspec.to_builtins(recommended(self.objective)[1]), **self.privacy}
        converted: PrivacyParameters = _converted(fields, PrivacyParameters, "privacy")
        return converted


def config_from(fields: dict[str, Any]) -> LabConfig:
    """Build and check a configuration. Raises UsageError that names what is wrong."""
    config: LabConfig = _converted(fields, LabConfig, "experiment")
    config.learning_parameters()
    config.privacy_parameters()
    if config.epsilon is not None and config.objective != "implicit":
        raise UsageError("--epsilon is for --objective implicit")
    if config.epsilon is not None and (config.drop, config.online) != (0.0, 1.0):
        raise UsageError("--epsilon has faults of its own: use --crash instead of --drop and --online")
    if config.backend not in ("auto", "numpy") and (config.engine == "peers" or config.epsilon is not None):
        raise UsageError(
            "--backend is for the swarms of --engine kernels without --epsilon; the others compute with numpy"
        )
    if config.engine == "peers":
        if (config.drop, config.online) != (0.0, 1.0):
            raise UsageError(
                "--engine peers has no --drop and --online: on a connection messages arrive in order, or it breaks",
                remedy="leave them out, or use --engine kernels",
            )
        if config.peers is not None and config.peers > MAX_SIMULATED_PEERS:
            raise UsageError(f"--engine peers runs up to {MAX_SIMULATED_PEERS} peers; use --engine kernels")
    return config


def assigned(settings: list[str]) -> dict[str, dict[str, Any]]:
    """`["learning.n_factors=8", ...]` as the fields `learning` and `privacy`. Raises UsageError."""
    fields: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        section, _, key = name.partition(".")
        if not equals or section not in ("learning", "privacy") or not key:
            raise UsageError(f"--set {setting}: not of the form learning.NAME=VALUE or privacy.NAME=VALUE")
        try:
            fields.setdefault(section, {})[key] = msgspec.json.decode(value.encode())
        except msgspec.DecodeError:
            fields.setdefault(section, {})[key] = value
    return fields


def _converted(fields: dict[str, Any], kind: type[Any], what: str) -> Any:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{what}: {error}") from error
