"""iALS by the `implicit` library: the implementation that others compare with (Hu, Koren & Volinsky 2008)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from p2prec.errors import UsageError
from p2prec.lab.baselines.base import Fitted, Objective, OnRound, Training, silent


@dataclass(frozen=True, slots=True)
class Ials:
    """`implicit.als.AlternatingLeastSquares`: confidence `alpha` for what was touched, 1 for everything else."""

    name: ClassVar[str] = "ials"
    objectives: ClassVar[frozenset[Objective]] = frozenset({"implicit"})
    n_factors: int = 32
    alpha: float = 5.0
    reg: float = 10.0
    sweeps: int = 15

    def fit(self, train: Training, rng: np.random.Generator, on_round: OnRound = silent) -> Fitted:
        """Raises UsageError when the library is not installed."""
        try:
            from implicit.cpu.als import AlternatingLeastSquares
            from scipy.sparse import csr_matrix
        except ImportError as error:
            raise UsageError("the implicit library is not installed", remedy="pip install 'p2prec[lab]'") from error
        histories = train.histories
        matrix = csr_matrix(
            (histories.values, histories.items, histories.offsets), shape=(train.n_people, train.n_items)
        )
        model = AlternatingLeastSquares(
            factors=self.n_factors,
            regularization=self.reg,
            alpha=self.alpha,
            iterations=self.sweeps,
            use_cg=False,
            num_threads=1,  # one seed, one result
            random_state=int(rng.integers(2**31)),
        )
        model.fit(matrix, show_progress=False, callback=lambda sweep, _seconds, _loss: on_round(sweep + 1))
        scores: np.ndarray = model.user_factors @ model.item_factors.T
        return Fitted(np.asarray(scores, np.float32))
