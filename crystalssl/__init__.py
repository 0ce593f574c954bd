"""Self-supervised learning for crystals, the scikit-learn way.

Names are looked up when they are first used (PEP 562), so that ``import crystalssl`` loads neither torch nor pymatgen.

Examples
--------
>>> import crystalssl
>>> "CrystalSSLRegressor" in dir(crystalssl)
True
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from crystalssl._limits import LIMITS
from crystalssl._version import __version__

if TYPE_CHECKING:
    # Type checkers and editors do not run __getattr__: this is the table below once more, for them.
    from crystalssl import (
        augment,
        datasets,
        encoders,
        estimators,
        exceptions,
        graphs,
        inspection,
        io,
        matbench,
        plotting,
        pretext,
        training,
    )
    from crystalssl._show_versions import show_versions
    from crystalssl.estimators import (
        CrystalSSLClassifier,
        CrystalSSLRegressor,
        PretrainedCrystalEmbedder,
        load,
        skops_trusted_types,
    )
    from crystalssl.graphs import CrystalCorpus, CrystalGraphs, CrystalGraphTransformer, check_structures

__all__ = [
    "LIMITS",
    "CrystalCorpus",
    "CrystalGraphTransformer",
    "CrystalGraphs",
    "CrystalSSLClassifier",
    "CrystalSSLRegressor",
    "PretrainedCrystalEmbedder",
    "__version__",
    "augment",
    "check_structures",
    "datasets",
    "encoders",
    "estimators",
    "exceptions",
    "graphs",
    "inspection",
    "io",
    "load",
    "matbench",
    "plotting",
    "pretext",
    "show_versions",
    "skops_trusted_types",
    "training",
]

# Public name -> submodule that defines it. Whatever else __all__ lists is itself a submodule.
_DEFINED_IN = {
    "CrystalCorpus": "graphs",
    "CrystalGraphTransformer": "graphs",
    "CrystalGraphs": "graphs",
    "CrystalSSLClassifier": "estimators",
    "CrystalSSLRegressor": "estimators",
    "PretrainedCrystalEmbedder": "estimators",
    "check_structures": "graphs",
    "load": "estimators",
    "show_versions": "_show_versions",
    "skops_trusted_types": "estimators",
}


def __getattr__(name: str) -> Any:
    if name in _DEFINED_IN:
        value = getattr(importlib.import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)
        globals()[name] = value  # the next look-up does not come here
        return value
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")  # the import system itself sets the attribute
    # With name= and obj= Python itself adds "Did you mean: …?" to the traceback.
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
