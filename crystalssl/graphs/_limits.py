"""How much of a file is read, whatever it announces."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Limits"]


@dataclass
class Limits:
    """Limits of what one file or text may hold.

    They keep a file from taking all memory or time. Change them through :obj:`crystalssl.graphs.LIMITS`.

    Parameters
    ----------
    bytes : int, default=8 MiB
        Size of a file, as it is and expanded where it is compressed.
    sites : int, default=20,000
        Atoms in the cell, all images by symmetry counted.

    Examples
    --------
    >>> from crystalssl.graphs import LIMITS
    >>> LIMITS.sites
    20000
    >>> LIMITS.sites = 100_000  # for very large cells
    >>> LIMITS.sites = 20_000
    """

    bytes: int = 8 * 2**20
    sites: int = 20_000

    def check_sites(self, n_sites: int) -> None:
        """Raise ValueError if a crystal has too many atoms.

        Parameters
        ----------
        n_sites : int
            Number of atoms.
        """
        if n_sites > self.sites:
            raise ValueError(
                f"it holds {n_sites:,} sites, more than the {self.sites:,} of crystalssl.graphs.LIMITS.sites; "
                "raise that limit if the crystal is meant to be that large"
            )


LIMITS = Limits()
"""The limits that all readers heed; set its fields to change them."""
