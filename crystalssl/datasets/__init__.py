"""Data sets of crystals: Matbench v0.1 and its folds, matminer sets, prototypes, OPTIMADE by web and file."""

from crystalssl.datasets._fetch import fetch_matbench, fetch_matminer
from crystalssl.datasets._files import get_data_home
from crystalssl.datasets._folds import MatbenchFolds, matbench_folds
from crystalssl.datasets._optimade import fetch_optimade
from crystalssl.datasets._parquet import read_optimade_parquet
from crystalssl.datasets._prototypes import load_prototypes

__all__ = [
    "MatbenchFolds",
    "fetch_matbench",
    "fetch_matminer",
    "fetch_optimade",
    "get_data_home",
    "load_prototypes",
    "matbench_folds",
    "read_optimade_parquet",
]
