"""Exceptions and warnings raised by crystalssl.

Every exception derives from :class:`CrystalSSLError` and from the standard exception that scikit-learn users would
expect in its place, so that ``except ValueError`` keeps working.
"""

from __future__ import annotations

__all__ = [
    "CrystalSSLError",
    "DatasetError",
    "InvalidStructureError",
    "NonFiniteError",
    "NotACrystalError",
    "NotRegisteredError",
    "OutsideDomainWarning",
    "PluginError",
    "PluginWarning",
    "ProcessError",
    "RecipeMismatchError",
    "RecordError",
    "ResultsError",
    "SkippedStructureWarning",
    "UnseenElementsWarning",
    "WeightsError",
]


class CrystalSSLError(Exception):
    """Base class of all errors raised on purpose by crystalssl."""


class InvalidStructureError(CrystalSSLError, ValueError):
    """A crystal cannot be used as it is (empty, disordered, NaN coordinates, overlapping atoms, …).

    Parameters
    ----------
    message : str
        What is wrong and what to do about it.
    index : int or None, default=None
        Position of the offending item in the input.
    """

    def __init__(self, message: str, index: int | None = None):
        super().__init__(message)
        self.index = index

    def __reduce__(self):
        # Without this, an exception raised in a joblib worker would lose its index on the way back.
        return type(self), (str(self), self.index)


class NotACrystalError(InvalidStructureError, TypeError):
    """An item is of a type that cannot be read as a crystal."""


class RecordError(InvalidStructureError):
    """A record of a file, table or list cannot be used; the message names it and says why.

    Parameters
    ----------
    message : str
        What is wrong, where, and what to do about it.
    index : int or None, default=None
        Position of the record among all that were read.
    id : str or None, default=None
        Its id.
    row : int or None, default=None
        Its row or frame in the file, counted from 0.
    file : str or None, default=None
        The file.
    """

    def __init__(
        self,
        message: str,
        index: int | None = None,
        id: str | None = None,
        row: int | None = None,
        file: str | None = None,
    ):
        super().__init__(message, index)
        self.id, self.row, self.file = id, row, file

    def __reduce__(self):
        return type(self), (str(self), self.index, self.id, self.row, self.file)


class NotRegisteredError(CrystalSSLError, KeyError):
    """There is no encoder, pretext task or augmentation of that name."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show it in quotes


class PluginError(CrystalSSLError, ImportError):
    """An installed package declares an encoder, a pretext task or an augmentation that cannot be imported or used."""


class ProcessError(CrystalSSLError, RuntimeError):
    """Processes that are to train one network together cannot: they differ, or one has ended."""


class NonFiniteError(CrystalSSLError, FloatingPointError):
    """Training diverged, or a network gives NaN or infinity; the message names the cause."""


class RecipeMismatchError(CrystalSSLError, ValueError):
    """Graphs were built with another recipe (cutoff, number of neighbours) than the one needed."""


class WeightsError(CrystalSSLError, OSError):
    """A weights folder is missing, incomplete, altered, or does not fit the encoder."""


class DatasetError(CrystalSSLError, OSError):
    """A data set file is missing, has the wrong hash, or could not be downloaded."""


class ResultsError(CrystalSSLError, OSError):
    """A file of results is missing, altered, or of another estimator, data set or fold than is asked for."""


class SkippedStructureWarning(UserWarning):
    """Crystals were left out because they are invalid; ``errors_`` or ``report`` lists them."""


class PluginWarning(UserWarning):
    """An installed package declares something that cannot be imported or used; it is left out of a listing."""


class OutsideDomainWarning(UserWarning):
    """Predictions are asked for crystals that are unlike all that a model was trained on."""


class UnseenElementsWarning(OutsideDomainWarning):
    """Predictions are asked for crystals with elements that no training label has seen."""
