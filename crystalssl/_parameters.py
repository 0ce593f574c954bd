"""What all estimators do with their parameters."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import InvalidParameterError, Options, StrOptions, make_constraint

from crystalssl._registry import Registry
from crystalssl._signatures import inherit_sections
from crystalssl._suggestions import did_you_mean


class Registered(StrOptions):
    """Constraint on what a registry knows when a value is checked: a name, or what may be given in place of one.

    Parameters
    ----------
    registry : Registry
        Where names are looked up.
    """

    def __init__(self, registry: Registry):
        super(Options, self).__init__()  # without the fixed options of a StrOptions
        self.registry = registry

    @property
    def options(self) -> set[str]:
        """The names of now."""
        return set(self.registry.names())

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether a value is known."""
        return val in self.registry if isinstance(val, str) else self.registry.accepts(val)

    def __str__(self) -> str:
        return f"a str among {{{', '.join(map(repr, sorted(self.options)))}}}, {self.registry.others}"


def check_registered(parameter: str, value: Any, registry: Registry) -> None:
    """Raise InvalidParameterError if a registry does not know what was given for a parameter."""
    constraint = Registered(registry)
    if not constraint.is_satisfied_by(value):
        hint = did_you_mean(value, constraint.options)
        raise InvalidParameterError(f"The {parameter!r} parameter must be {constraint}. Got {value!r} instead.{hint}")


if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**kwargs):
        """Do nothing; type checkers alone look at it."""
        return lambda function: function


__all__ = ["PackageEstimator", "Registered", "check_registered", "with_parameters"]

C = TypeVar("C", bound=type)


@dataclass_transform(eq_default=False)
def with_parameters(cls: C) -> C:
    """Give an estimator the constructor that its annotated attributes describe, as those of a dataclass do.

    The constructor assigns and does nothing else, as scikit-learn asks. Parameters of the base class come first. Those
    after ``_: KW_ONLY`` are given by name. The docstring is completed by :func:`inherit_sections`. So what several
    estimators share is written once.

    A true dataclass would not do: dask takes two of them for equal if their fields are, whatever they have learnt.
    """
    base = next((base for base in cls.__mro__[1:] if hasattr(vars(base).get("__init__"), "__signature__")), None)
    parameters = [] if base is None else [*inspect.signature(base).parameters.values()]
    kinds = iter((inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY))
    kind = next(kinds)
    for name, annotation in inspect.get_annotations(cls).items():
        if name == "_":
            kind = next(kinds)
        elif name in vars(cls) and not name.startswith("_"):
            parameters.append(inspect.Parameter(name, kind, default=vars(cls)[name], annotation=annotation))
            delattr(cls, name)
    signature = inspect.Signature(parameters)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        vars(self).update(given.arguments)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    __init__.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    cls.__init__ = __init__  # type: ignore[misc]
    inherit_sections(cls)
    return cls


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

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        encoder: Any = state.get("encoder")
        if not isinstance(encoder, type) and hasattr(encoder, "config"):
            # The weights of a template are not used: neither a file nor the key of a cache depends on them.
            state["encoder"] = _Template(type(encoder), encoder.config)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("encoder"), _Template):
            state = {**state, "encoder": state["encoder"].build()}
        if "layers" in state:  # as it was called in version 0.1.0
            state = {**state, "pooled_layers": state.pop("layers")}
        super().__setstate__(state)
        # A file of an earlier version lacks the parameters that have come since; they had their defaults.
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if parameter.default is not parameter.empty and name not in self.__dict__:
                setattr(self, name, parameter.default)


class _Template(NamedTuple):
    """An encoder without its weights."""

    cls: type
    config: dict[str, Any]

    def build(self) -> Any:
        from crystalssl.training._seeding import seeded

        with seeded(0):  # initial weights must not move torch's global generator
            return self.cls(**self.config)
