"""Structures in, columnar graphs out. Knows numpy, pymatgen and gemmi; imports nothing from the other subpackages."""

from crystalssl._limits import LIMITS
from crystalssl.graphs._arrays import N_ELEMENTS
from crystalssl.graphs._cell_features import CELL_FEATURES, cell_features
from crystalssl.graphs._corpus import CrystalCorpus
from crystalssl.graphs._corpus_writer import CorpusWriter
from crystalssl.graphs._crystal_graphs import CrystalGraphs
from crystalssl.graphs._recipe import RECIPES, GraphRecipe
from crystalssl.graphs._structures import check_structures
from crystalssl.graphs._transformer import CrystalGraphTransformer

__all__ = [
    "CELL_FEATURES",
    "LIMITS",
    "N_ELEMENTS",
    "RECIPES",
    "CorpusWriter",
    "CrystalCorpus",
    "CrystalGraphTransformer",
    "CrystalGraphs",
    "GraphRecipe",
    "cell_features",
    "check_structures",
]
