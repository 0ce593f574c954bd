"""An estimator as plain data: what a submission says of it, and what tells whether it is still the same."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import pickle
import sys
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
from joblib.hashing import NumpyHasher
from sklearn.frozen import FrozenEstimator

# Parameters that change how fast or how loudly an estimator works, but not what it predicts.
_WITHOUT_EFFECT = ("memory", "n_jobs", "verbose")


def describe(estimator: Any) -> dict[str, Any]:
    """Return an estimator's class, parameters and versions as what JSON can hold.

    Parameters are told by their content: an array by its hash, a function by that of its code, a file or a folder of
    weights by that of the file, a fitted ``FrozenEstimator`` by that of all it has learnt; classes by the version of
    their package, or by their code where it has none. What a function calls is not looked at, nor are folders of other
    things.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Fitted or not; what it has learnt does not count, except in a ``FrozenEstimator``.

    Returns
    -------
    dict
        ``"estimator"``, nested as the estimator is, and ``"versions"`` of the packages that its classes come from.

    Raises
    ------
    ValueError
        If a parameter cannot be told by its content.

    Examples
    --------
    >>> from sklearn.dummy import DummyRegressor
    >>> from crystalssl.matbench._describe import describe
    >>> describe(DummyRegressor(strategy="median"))["estimator"]
    {'class': 'sklearn.dummy.DummyRegressor', 'constant': None, 'quantile': None, 'strategy': 'median'}
    """
    packages: set[str] = set()
    return {"estimator": _plain(estimator, type(estimator).__name__, packages), "versions": _versions(packages)}


def differences(then: Any, now: Any, name: str = "") -> list[str]:
    """Return one line for each value that differs between two descriptions, apart from those without effect.

    Parameters
    ----------
    then, now : JSON values
        Two descriptions.
    name : str, default=""
        Where the two are found, for nested ones.

    Returns
    -------
    list of str
        Empty if the two are of the same estimator.

    Examples
    --------
    >>> from crystalssl.matbench._describe import differences
    >>> differences({"alpha": 1.0, "n_jobs": 2}, {"alpha": 2.0, "n_jobs": None})
    ['alpha: 1.0 then, 2.0 now']
    """
    if isinstance(then, dict) and isinstance(now, dict):
        lines = []
        # Where the classes differ, so do the names of most parameters, which nobody needs to be told.
        keys = ["class"] if then.get("class") != now.get("class") else sorted({*then, *now} - {*_WITHOUT_EFFECT})
        for key in keys:
            lines += differences(then.get(key, "nothing"), now.get(key, "nothing"), f"{name}.{key}".lstrip("."))
        return lines
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [
            line for i, pair in enumerate(zip(then, now, strict=True)) for line in differences(*pair, f"{name}[{i}]")
        ]
    # As JSON, since 1 == 1.0 == True in Python.
    if json.dumps(then, sort_keys=True) == json.dumps(now, sort_keys=True):
        return []
    return [f"{name}: {_short(then)} then, {_short(now)} now"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + " …"


def _plain(value: Any, where: str, packages: set[str]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, str | os.PathLike):
        sha256 = _path_sha256(Path(value))
        return {"path": str(value), "sha256": sha256} if sha256 else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}[{key!r}]", packages) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", packages) for i, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, where, packages) for item in value), key=json.dumps)
    if isinstance(value, functools.partial):
        parts = {"function": value.func, "arguments": value.args, "keywords": value.keywords}
        return _plain(parts, where, packages)
    if isinstance(value, type):
        return _name(value, packages)
    if isinstance(value, FunctionType):
        return {"function": _name(value, packages), "code": _function_sha256(value, where)}
    if isinstance(value, MethodType):
        return _plain({"function": value.__func__, "of": value.__self__}, where, packages)
    kind: dict[str, Any] = {"class": _name(type(value), packages), **_class_code(type(value))}
    if hasattr(value, "get_params") and not isinstance(value, FrozenEstimator):
        params = value.get_params(deep=False)
        return kind | {name: _plain(params[name], f"{where}.{name}", packages) for name in sorted(params)}
    if callable(value) and hasattr(value, "__name__"):  # compiled, such as np.log1p
        return {"function": value.__name__, "content": _content(value, where)}
    return kind | {"content": _content(value, where)}


def _name(value: Any, packages: set[str]) -> str:
    module = value.__module__ or "builtins"
    packages.add(module.partition(".")[0])
    return f"{module}.{value.__qualname__}"


def _versions(packages: set[str]) -> dict[str, str]:
    found = {name: _version(name) for name in sorted(packages)}
    return {name: str(version) for name, version in found.items() if version is not None}


def _version(package: str) -> Any:
    return getattr(sys.modules.get(package), "__version__", None)


def _class_code(cls: type) -> dict[str, str]:
    """Hash of the methods of a class where no version tells them, as in a script or a notebook."""
    code: dict[str, Any] = {}
    for base in cls.__mro__:
        if _version(base.__module__.partition(".")[0]) is None:
            for name, member in vars(base).items():
                function = getattr(member, "fget", getattr(member, "__func__", member))
                if isinstance(function, FunctionType):
                    code.setdefault(name, _code(function.__code__))
    return {"code": hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()} if code else {}


def _path_sha256(path: Path) -> str | None:
    """Hash of a file, or of the configuration of a weights folder, which has that of the weights in it."""
    try:
        if (path / "config.json").is_file():
            path = path / "config.json"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except (OSError, ValueError):
        return None  # a string that cannot be a path, which most are not


def _function_sha256(function: FunctionType, where: str) -> str:
    """Hash of what a function is made of, without names of files and numbers of lines."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    closure = [
        _code(cell.__code__) if isinstance(cell, FunctionType) else _plain(cell, f"{where}, closure", set())
        for cell in cells
    ]
    defaults = _plain([function.__defaults__, function.__kwdefaults__], f"{where}, defaults", set())
    text = json.dumps([_code(function.__code__), defaults, closure], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _code(code: CodeType) -> list[Any]:
    constants: list[Any] = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            constants.append(_code(constant))
        elif isinstance(constant, frozenset):  # whose order depends on the process
            constants.append(sorted(map(repr, constant)))
        else:
            constants.append(repr(constant))
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


class _Hasher(NumpyHasher):
    """joblib's hash, and tensors as arrays: torch pickles a tensor with its address in memory."""

    def save(self, obj: Any) -> None:
        if type(obj).__module__.startswith("torch") and hasattr(obj, "detach"):
            obj = (type(obj).__name__, obj.detach().cpu().numpy())
        super().save(obj)


def _content(value: Any, where: str) -> str:
    try:
        return _Hasher(hash_name="sha1").hash(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{where} is {_short(value)}, of which nobody can tell whether it is still the same when the run goes on "
            f"({error}). Give the estimator parameters that can be pickled."
        ) from error
