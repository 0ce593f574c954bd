"""Finetuned estimators as model folders, and what skops stores of them."""

from __future__ import annotations

import os
from typing import Any

from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from crystalssl.estimators._base import CrystalEstimator
from crystalssl.estimators._plain_state import PlainState
from crystalssl.estimators._y import nameless

__all__ = ["SavedModel"]


class SavedModel(PlainState, CrystalEstimator):
    """Base class of estimators that are written to model folders."""

    target_names_: list[str]
    target_units_: list[str | None]

    def save(
        self,
        folder: str | os.PathLike,
        *,
        cross_validation: Any = None,
        command: str | None = None,
        card: str | None = None,
    ) -> None:
        """Write the fitted model to a folder, from which :meth:`load` and :func:`crystalssl.load` read.

        It holds ``model.safetensors`` with all networks, ``config.json`` with the rest, and a card, ``README.md``.
        There is no pickle in it. Predictions after loading are the same to the bit. What JSON cannot say is left out,
        with a warning: callbacks; a RandomState; an embedder as `pretrain`, which is needed only to fit anew.

        Parameters
        ----------
        folder : path
            A model folder in its place is replaced, if it holds nothing else.
        cross_validation : str, dict or None, default=None
            Errors that were found by cross-validation, for the card: a text, or numbers and texts by name.
        command : str or None, default=None
            What the model was made with, for the card.
        card : str or None, default=None
            Text of README.md; None writes one: of the crystals and targets, the settings, the training, the errors,
            the versions and the command.

        Raises
        ------
        FileExistsError
            If anything else than a model folder is in the way. The message says what.
        ValueError
            If classes are neither numbers nor texts, or the encoder's class bears the name of another one.
        WeightsError
            If it cannot be written. A model that `folder` held is left.
        """
        from crystalssl.estimators._model_files import save_model

        check_is_fitted(self)
        save_model(self, folder, cross_validation, command, card)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Any:
        """Return the fitted model that :meth:`save` wrote to a folder.

        Nothing in the folder is executed, and all of it is checked.

        Parameters
        ----------
        folder : path
            The model folder.

        Returns
        -------
        estimator
            It predicts, and with ``warm_start=True`` it is trained further.

        Raises
        ------
        WeightsError
            If there is no such folder; if it holds another estimator, or the weights of an encoder; if a file in it is
            missing, truncated or altered, or is of a newer version; if its encoder is not registered here.
        """
        from crystalssl.estimators._model_files import load_model

        return load_model(folder, cls)

    def _learnt(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        from crystalssl.estimators._model_files import learnt_of

        if "nets_" not in state:
            return None
        for name in state.keys() - {*self.get_params(deep=False), "_sklearn_output_config"}:
            del state[name]
        return learnt_of(self)

    def _restore(self, learnt: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        from crystalssl.estimators._model_files import restore

        restore(self, learnt, tensors)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "nets_") and not hasattr(self, "target_names_"):  # of a version in which targets had no names
            n_targets = getattr(self, "n_targets_", 1)
            self.target_names_, self.target_units_ = nameless(n_targets), [None] * n_targets
