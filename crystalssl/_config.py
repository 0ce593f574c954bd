"""Objects that are described by the arguments of their constructor."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import InvalidParameterError

from crystalssl._signatures import inherit_sections, whole_signature
from crystalssl._suggestions import did_you_mean

__all__ = ["Configured", "construct", "source_of", "to_json"]


class Configured:
    """Base class: `config` holds the arguments that the constructor was called with, defaults among them.

    What has been constructed is not changed afterwards: ``type(x)(**x.config)`` is another one like it.

    A constructor that passes on what it does not know, as ``**shared``, has the parameters of the base class too, and
    its signature shows them. In a docstring, the line ``%(parameters)s`` stands for their description.
    """

    name: ClassVar[str]
    config: dict[str, Any]
    """Arguments of the constructor, by name."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]
            cls.__init__.__signature__ = whole_signature(cls)  # type: ignore[attr-defined]
        inherit_sections(cls)

    def to_config(self) -> Any:
        """Return what this is as JSON values: its name, and its parameters.

        Returns
        -------
        dict
            With the keys "name" and "params".

        Raises
        ------
        ValueError
            If a parameter has no form in JSON.
        """
        return {"name": self.name, "params": to_json(self.config)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config.items())})"


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that records its arguments, unless that of a subclass, which calls it, has done so."""
    signature = inspect.signature(init)
    kinds = {parameter.name: parameter.kind for parameter in signature.parameters.values()}

    @functools.wraps(init)
    def recorded(self: Configured, *args: Any, **kwargs: Any) -> None:
        if "config" not in vars(self):
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            config: dict[str, Any] = {}
            for name, value in list(bound.arguments.items())[1:]:  # the first is `self`
                config |= value if kinds[name] == inspect.Parameter.VAR_KEYWORD else {name: value}
            object.__setattr__(self, "config", copy.deepcopy(config))
        init(self, *args, **kwargs)

    return recorded


def to_json(value: Any) -> Any:
    """Return a value in the form that JSON gives back; an augmentation or a task as its name and parameters.

    Raises
    ------
    ValueError
        If there is no such form.
    """
    if isinstance(value, Configured):
        return value.to_config()
    if isinstance(value, type) and issubclass(value, Configured):
        return value.name
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"parameters must be numbers, text, lists or dicts of these, got {value!r}")


def source_of(value: Any) -> Any:
    """Return what other people's classes in a value consist of, for the keys of caches.

    So a class whose methods were edited is not taken for what it was. Classes of this package count as fixed.

    Parameters
    ----------
    value : object
        A class, an instance, or a collection of them.

    Returns
    -------
    list
    """
    if isinstance(value, Configured):
        return [source_of(type(value)), source_of(value.config)]
    if isinstance(value, Mapping):
        return source_of([*value.values()])
    if isinstance(value, (list, tuple)):
        return [source for item in value if (source := source_of(item))]
    if not isinstance(value, type):
        return []
    return [
        [f"{base.__module__}.{base.__qualname__}.{name}", content]
        for base in value.__mro__
        if base.__module__.partition(".")[0] not in ("crystalssl", "torch", "builtins")
        for name, member in sorted(vars(base).items())
        if (content := _content(member, name)) is not None
    ]


def _content(member: Any, name: str = "") -> Any:
    """Return what an attribute of a class says or does, the same in every process; None of what cannot be told."""
    if isinstance(member, (classmethod, staticmethod)):
        member = member.__func__
    if callable(member):
        member = inspect.unwrap(member)
        code = getattr(member, "__code__", None)
        return code and [_content(code), _content(member.__defaults__)]
    if isinstance(member, CodeType):
        return [member.co_code, member.co_names, _content(member.co_consts)]
    if name.startswith("__"):  # such as the number of its first line
        return None
    if isinstance(member, Mapping):
        return [[repr(key), _content(item)] for key, item in member.items()]
    if isinstance(member, (list, tuple)):
        return [_content(item) for item in member]
    if isinstance(member, (set, frozenset)):
        return sorted(map(repr, member))
    return member if isinstance(member, (bool, int, float, complex, str, bytes)) else None


def construct(kind: str, cls: Any, params: dict[str, Any]) -> Any:
    """Call a constructor.

    Parameters
    ----------
    kind : str
        What the class is, for messages.
    cls : type
        With a `name`.
    params : dict
        Parameters of its constructor.

    Raises
    ------
    ValueError
        If it does not take them.
    """
    try:
        return cls(**params)
    except InvalidParameterError:  # a TypeError too, which says what is wrong
        raise
    except TypeError as error:
        known = {*inspect.signature(cls).parameters}
        if hasattr(cls, "default_view"):  # to which some tasks pass on what they do not know
            known |= {*inspect.signature(cls.default_view).parameters}
        hint = next((did_you_mean(name, known) for name in params if name not in known), "")
        raise ValueError(f"the {kind} {cls.name!r} does not take these parameters: {error}.{hint}") from error
