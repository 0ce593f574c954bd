"""Signatures and docstrings that are written once: whoever asks for help sees the whole of them."""

from __future__ import annotations

import inspect

import pytest

from crystalssl._config import Configured
from crystalssl._signatures import takes_what
from crystalssl.datasets import fetch_matbench, fetch_matminer
from crystalssl.encoders import ENCODERS
from crystalssl.pretext import TASKS


class Base(Configured):
    """The base.

    Parameters
    ----------
    a : int, default=1
        The first.
    b, c : str, default="b"
        Two of them,

        on several lines.
    **more
        The rest.

    Notes
    -----
    None.
    """

    def __init__(self, a=1, b="b", *, c="b", **more):
        self.given = (a, b, c, more)


class Derived(Base):
    """What derives.

    Parameters
    ----------
    d : int, default=4
        The fourth.
    a : int, default=2
        The first, otherwise.
    %(parameters)s
    """

    def __init__(self, d=4, a=2, **shared):
        super().__init__(a, **shared)


class Closed(Derived):
    """Passes nothing on."""

    def __init__(self, e=5):
        super().__init__(b="own")


class Free(Configured):
    """Nothing above it takes what it takes."""

    def __init__(self, **options):
        self.options = options


def test_signature_shows_what_is_passed_on():
    assert str(inspect.signature(Derived)) == "(d=4, a=2, *, b='b', c='b', **more)"
    assert str(inspect.signature(Closed)) == "(e=5)"
    assert str(inspect.signature(Free)) == "(**options)"
    assert Derived(1, c="x", z=3).given == (2, "b", "x", {"z": 3})
    assert Derived(1, c="x").config == {"d": 1, "a": 2, "c": "x"}  # what was given, and the defaults of its own


def test_description_is_that_of_the_base_class():
    assert Derived.__doc__ == inspect.cleandoc("""What derives.

    Parameters
    ----------
    d : int, default=4
        The fourth.
    a : int, default=2
        The first, otherwise.
    b, c : str, default="b"
        Two of them,

        on several lines.
    **more
        The rest.
    """)
    assert Closed.__doc__ == "Passes nothing on."


@pytest.mark.parametrize("cls", [*ENCODERS.values(), *TASKS.values()], ids=lambda cls: cls.__name__)
def test_help_describes_every_parameter_once(cls):
    entries = [line.strip().partition(" :")[0].split(", ") for line in cls.__doc__.splitlines()]
    assert "%(" not in cls.__doc__
    for name, parameter in inspect.signature(cls).parameters.items():
        shown = f"**{name}" if parameter.kind is parameter.VAR_KEYWORD else name
        assert sum(shown in entry for entry in entries) == 1, name


def test_function_takes_what_another_one_takes():
    def first(name, *, n=3, more=False):
        """Return nothing."""

    @takes_what(first)
    def second(name, **options):
        """Return what it was given."""
        return name, options

    assert second("x", more=True) == ("x", {"n": 3, "more": True})
    assert second.__doc__ == "Return what it was given."
    with pytest.raises(TypeError, match="unexpected keyword argument 'm'"):
        second("x", m=1)
    assert inspect.signature(fetch_matminer) == inspect.signature(fetch_matbench)
