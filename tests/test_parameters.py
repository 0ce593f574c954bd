"""Parameters that are declared once, as annotated attributes."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import KW_ONLY
from typing import ClassVar

import pytest

from crystalssl import CrystalSSLClassifier, CrystalSSLRegressor
from crystalssl._parameters import PackageEstimator, with_parameters


@with_parameters
class Base(PackageEstimator):
    """The base.

    Parameters
    ----------
    a : int, default=1
        The first.
    b : str or None, default=None
        The second,
        on two lines.

    Attributes
    ----------
    c_ : int
        What is learnt.

    Examples
    --------
    None.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {"a": [int], "b": [str, None]}

    a: int = 1
    _: KW_ONLY
    b: str | None = None
    kind: ClassVar[str]


@with_parameters
class Derived(Base):
    """What derives.

    Parameters
    ----------
    %(parameters)s
    d : float, default=0.5
        The third.

    Attributes
    ----------
    %(attributes)s
    """

    _: KW_ONLY
    d: float = 0.5

    def double(self):
        return 2 * self.d


class Plain(Derived):
    """Adds nothing."""


class Own(Derived):
    """Has a constructor of its own."""

    def __init__(self, e=3):
        super().__init__(b="own")
        self.e = e


def test_constructor_assigns():
    assert Derived().get_params() == {"a": 1, "b": None, "d": 0.5}
    assert vars(Derived(5, d=2, b="x")) == {"a": 5, "b": "x", "d": 2}
    assert vars(Plain(7)) == {"a": 7, "b": None, "d": 0.5}
    assert Base().get_params() == {"a": 1, "b": None}
    assert (Own().get_params(), Own().b, Own().double()) == ({"e": 3}, "own", 1.0)
    assert str(inspect.signature(Derived)) == "(a: 'int' = 1, *, b: 'str | None' = None, d: 'float' = 0.5)"


@pytest.mark.parametrize(
    ("args", "params", "message"),
    [((), {"f": 1}, "unexpected keyword argument 'f'"), ((1, "x"), {}, "too many positional arguments")],
)
def test_what_is_no_parameter_is_refused(args, params, message):
    with pytest.raises(TypeError, match=message):
        Derived(*args, **params)


def test_documentation_is_composed():
    assert inspect.getdoc(Derived) == inspect.cleandoc("""What derives.

    Parameters
    ----------
    a : int, default=1
        The first.
    b : str or None, default=None
        The second,
        on two lines.
    d : float, default=0.5
        The third.

    Attributes
    ----------
    c_ : int
        What is learnt.
    """)
    for cls in (CrystalSSLRegressor, CrystalSSLClassifier):
        assert "%(" not in cls.__doc__
        for name in [*inspect.signature(cls).parameters, "net_", "trained_elements_"]:
            assert cls.__doc__.count(f"\n{name} : ") == 1, name


def test_estimators_are_no_dataclasses():
    """Dask takes two dataclasses for equal if their fields are, whatever they have learnt."""
    assert not dataclasses.is_dataclass(CrystalSSLRegressor)
    assert not hasattr(CrystalSSLRegressor, "max_epochs")
