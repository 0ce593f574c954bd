"""Matbench v0.1: any estimator on the official folds, the file of a submission, and where it stands among others."""

from crystalssl.matbench._compare import MatbenchComparison, compare
from crystalssl.matbench._published import leaderboard
from crystalssl.matbench._run import run

__all__ = ["MatbenchComparison", "compare", "leaderboard", "run"]
