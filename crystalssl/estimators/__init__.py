"""What users import."""

from __future__ import annotations

from crystalssl.estimators._classifier import CrystalSSLClassifier
from crystalssl.estimators._embedder import PretrainedCrystalEmbedder
from crystalssl.estimators._model_files import load
from crystalssl.estimators._plain_state import skops_trusted_types
from crystalssl.estimators._regressor import CrystalSSLRegressor

__all__ = ["CrystalSSLClassifier", "CrystalSSLRegressor", "PretrainedCrystalEmbedder", "load", "skops_trusted_types"]
