"""Ensembles whose networks each leave out a part of the crystals."""

from __future__ import annotations

from typing import Any

import numpy as np

from crystalssl.estimators._finetuning_parameters import FinetuningParameters
from crystalssl.estimators._left_out import LeftOut, check_groups, deal_out

__all__ = ["CrossValidatedEnsemble"]


class CrossValidatedEnsemble(FinetuningParameters):
    """Base class of estimators that know how their networks predict what they were not trained on."""

    def _check_ensemble(self, warm: bool, groups: Any) -> None:
        """Raise ValueError for parameters that ask for nothing, or for what cannot be."""
        if self.ensemble == "seeds":
            if groups is not None:
                raise ValueError(
                    'groups are what a cross-validated ensemble leaves out; set ensemble="cross-validated"'
                )
            return
        if self.ensemble_size < 2:
            raise ValueError(
                'ensemble="cross-validated" leaves a part of the crystals out of each network; set ensemble_size to at '
                f"least 2, it is {self.ensemble_size}"
            )
        if warm:
            raise ValueError(
                'the networks of ensemble="cross-validated" must not see what they left out, so that none goes on; set '
                "warm_start=False"
            )

    def _folds(
        self, values: np.ndarray, used: np.ndarray, groups: Any, random_state: np.random.RandomState
    ) -> list[np.ndarray]:
        """Return the rows that each network of a cross-validated ensemble leaves out."""
        if groups is not None:
            groups = check_groups(groups, len(values))[used]
        return deal_out(self.ensemble_size, used, self._strata(values[used]), groups, random_state)

    def _strata(self, values: np.ndarray) -> np.ndarray:
        return np.zeros(len(values), dtype=int)

    def _set_left_out(
        self, left_out: LeftOut, labels: np.ndarray, sizes: np.ndarray, rows: np.ndarray, n_crystals: int
    ) -> None:
        raise NotImplementedError

    def _forget_left_out(self) -> None:
        """Drop what a cross-validated ensemble of an earlier fit had learnt."""
        for name in ("oof_score_", "_oof"):
            self.__dict__.pop(name, None)

    def _left_out(self, asked: str) -> LeftOut:
        """Return the predictions of left-out crystals, or raise a ValueError that says what was asked of them."""
        record = getattr(self, "_record", None)
        if record is None or record.left_out is None:
            raise ValueError(
                f"{asked} takes predictions of training crystals that were left out, which this model has none of; "
                'set ensemble="cross-validated" and ensemble_size to 5, and fit again'
            )
        return record.left_out
