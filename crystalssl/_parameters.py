"""What all estimators do with their parameters."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import InvalidParameterError, StrOptions, make_constraint

from crystalssl._suggestions import did_you_mean

__all__ = ["PackageEstimator"]


class PackageEstimator(BaseEstimator):
    """Base class of all estimators: the errors of scikit-learn, with a suggestion, and files that outlive a version."""

    _parameter_constraints: ClassVar[dict[str, list]]

    def _validate_params(self) -> None:
        try:
            super()._validate_params()
        except InvalidParameterError as error:
            for name, value in self.get_params(deep=False).items():
                constraints = [make_constraint(constraint) for constraint in self._parameter_constraints[name]]
                if any(constraint.is_satisfied_by(value) for constraint in constraints):
                    continue
                known = {option for c in constraints if isinstance(c, StrOptions) for option in c.options}
                # The first that is wrong is the one that scikit-learn complains of.
                raise InvalidParameterError(f"{error}{did_you_mean(value, known)}") from None
            raise

    def set_params(self, **params: Any) -> Any:
        """Set the parameters of this estimator.

        Parameters
        ----------
        **params : dict
            Parameters by name; ``<part>__<parameter>`` sets one of a nested estimator.

        Returns
        -------
        self
        """
        known = self.get_params(deep=False)
        for name in params:
            own = name.partition("__")[0]
            if own not in known:
                raise ValueError(
                    f"Invalid parameter {own!r} for estimator {self}.{did_you_mean(own, known)} "
                    f"Valid parameters are: {list(known)!r}."
                )
        return super().set_params(**params)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # A file of an earlier version lacks the parameters that have come since; they had their defaults.
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if parameter.default is not parameter.empty and name not in self.__dict__:
                setattr(self, name, parameter.default)
