"""Classes by name: those of the package, and those that other people bring."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from crystalssl._suggestions import did_you_mean
from crystalssl.exceptions import NotRegisteredError, PluginError, PluginWarning

__all__ = ["Registry"]


class Registry(Mapping[str, Any]):
    """A read-only mapping from names to classes.

    A name that is not known is looked up among the entry points of the installed packages. Only the package that
    declares it is imported; listing all names imports all of them.

    Parameters
    ----------
    kind : str
        What the classes are, for messages.
    group : str
        Group of the entry points.
    base : type
        What the classes derive from.
    """

    def __init__(self, kind: str, group: str, base: type):
        self.kind = kind
        self.group = group
        self.base = base
        self._values: dict[str, Any] = {}

    def register(self, cls: Any = None, *, name: str | None = None) -> Any:
        """Make a class known by its name, ``cls.name``. Works as a decorator, with and without arguments.

        A class of the same module and qualified name is replaced, as when a cell of a notebook runs again.

        Parameters
        ----------
        cls : type, default=None
            The class. None returns a decorator.
        name : str or None, default=None
            Name to give to the class; None takes the one that it has.

        Returns
        -------
        type
            The class itself.

        Raises
        ------
        TypeError
            If the class is not of the right kind, or has no name.
        ValueError
            If the name belongs to another class.
        """
        if cls is None:
            return functools.partial(self.register, name=name)
        if name is not None:
            cls.name = name
        self.check(cls)
        self._add(cls)
        return cls

    def check(self, cls: Any) -> None:
        """Raise TypeError if something is no class of this registry, ValueError if its name belongs to another one."""
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise TypeError(f"{cls!r} is no {self.kind}: it must be a subclass of {_full_name(self.base)}")
        name = getattr(cls, "name", None)
        if not (isinstance(name, str) and name):
            raise TypeError(f"{_full_name(cls)} has no name: set the class attribute `name` to a text")
        other = self._values.get(name, cls)
        if _full_name(other) != _full_name(cls):
            raise ValueError(
                f"the name {name!r} of {_full_name(cls)} belongs to the {self.kind} {_full_name(other)}; "
                "set `name` to another text"
            )

    @property
    def others(self) -> str:
        """What may be given in place of a name, for messages."""
        return f"a subclass of {self.base.__name__} or an instance of one"

    def accepts(self, value: Any) -> bool:
        """Return whether a value may be given in place of a name: a class, or an instance."""
        return issubclass(value, self.base) if isinstance(value, type) else isinstance(value, self.base)

    def names(self) -> list[str]:
        """Return all names, without importing anything."""
        return sorted({*self._values, *(entry_point.name for entry_point in entry_points(group=self.group))})

    def _add(self, cls: Any) -> None:
        self._values[cls.name] = cls

    def _load(self, found: list[EntryPoint]) -> None:
        """Import the class that an installed package declares."""
        name = found[0].name
        packages = " and ".join(sorted({_package(entry_point) for entry_point in found}))
        try:
            if len({entry_point.value for entry_point in found}) > 1:
                raise ValueError("there is more than one of that name")
            cls = found[0].load()
            self.check(cls)
            if cls.name != name:
                raise ValueError(f"the entry point is named {name!r}, the class {cls.name!r}")
            self._add(cls)
        except Exception as error:  # whatever the import of another package raises
            raise PluginError(
                f"the {self.kind} {name!r} of {packages} cannot be used: {type(error).__name__}: {error}. Update or "
                "uninstall the package"
            ) from error

    def __getitem__(self, name: str) -> Any:
        if isinstance(name, str) and name not in self._values:
            found = [*entry_points(group=self.group, name=name)]
            if found:
                self._load(found)
        if not isinstance(name, str) or name not in self._values:
            names = self.names()
            raise NotRegisteredError(
                f"there is no {self.kind} {name!r}.{did_you_mean(name, names)} Known are {', '.join(names)}. Register "
                "the class that has this name, or install the package that brings it"
            )
        return self._values[name]

    def _load_all(self) -> list[PluginError]:
        """Import what all packages declare; return what was wrong with some of them."""
        faults = []
        for name in self.names():
            try:
                self[name]
            except PluginError as error:
                faults.append(error)
        return faults

    def __iter__(self) -> Iterator[str]:
        for fault in self._load_all():
            warnings.warn(str(fault), PluginWarning, stacklevel=2)
        return iter([*self._values])

    def __len__(self) -> int:
        self._load_all()  # without a word: a list asks for the length first, and would warn twice
        return len(self._values)

    def __repr__(self) -> str:
        return f"<{self.kind}s: {', '.join(self.names())}>"


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _package(entry_point: EntryPoint) -> str:
    return f"the package {entry_point.dist.name!r}" if entry_point.dist is not None else "a package without metadata"
