"""The pages of the API reference: one for each module, made of its ``__all__``, and one for each name in it."""

from __future__ import annotations

import importlib
import inspect
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.pycode import ModuleAnalyzer

import crystalssl

MODULES = [
    "crystalssl",
    "crystalssl.graphs",
    "crystalssl.datasets",
    "crystalssl.io",
    "crystalssl.encoders",
    "crystalssl.pretext",
    "crystalssl.augment",
    "crystalssl.training",
    "crystalssl.inspection",
    "crystalssl.matbench",
    "crystalssl.plotting",
    "crystalssl.exceptions",
]


def comment_of(name: str, value: Any) -> list[str]:
    """Return the lines of the string below a constant, which are in the module that defines it."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("crystalssl") and getattr(module, name, None) is value:
            lines = ModuleAnalyzer.for_module(module_name).find_attr_docs().get(("", name))
            if lines:
                return lines
    raise LookupError(f"nothing says what the constant {name} is: write a string below it, or a comment with #:")


def page_of(module: ModuleType) -> str:
    """Return the page of a module: its docstring, a table of its classes and functions, and its constants.

    What the package itself has too is described there.
    """
    title = module.__name__
    lines = [f".. _{title}:", "", title, "=" * len(title), "", f".. automodule:: {title}", "   :no-members:", ""]
    lines += [f".. currentmodule:: {title}", ""]
    members, shared, constants = [], [], []
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value) or name == "__version__":
            continue
        if not callable(value):
            constants.append(name)
        elif module is not crystalssl and name in crystalssl.__all__:
            shared.append(name)
        else:
            members.append(name)
    lines += table_of(members)
    for name in constants:
        value = getattr(module, name)
        lines += [f".. py:data:: {name}", "", *(f"   {line}" for line in comment_of(name, value)), ""]
    if shared:
        lines += ["The package has these too:", "", ".. currentmodule:: crystalssl", "", *table_of(shared)]
    return "\n".join(lines)


def table_of(names: list[str]) -> list[str]:
    """Return the table of some names of the current module, of which each gets a page."""
    return [".. autosummary::", "   :toctree: .", "   :nosignatures:", "", *(f"   {name}" for name in names), ""]


def write_pages(folder: Path) -> None:
    """Write the page of every module, and their list, which autosummary reads before it writes the other pages."""
    shutil.rmtree(folder, ignore_errors=True)  # pages of names that are gone would be in no table of contents
    folder.mkdir()
    pages = {name: page_of(importlib.import_module(name)) for name in MODULES}
    listed = "\n".join(f"   {name}" for name in MODULES)
    pages["index"] = (
        "API reference\n=============\n\nEvery public name, by the module that it is imported from.\n\n"
        f".. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    )
    for name, text in pages.items():
        (folder / f"{name}.rst").write_text(text, encoding="utf-8")
