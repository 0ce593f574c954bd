"""How much of a file is read, whatever it announces."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Limits"]


@dataclass(slots=True)
class Limits:
    """Limits of what files may hold.

    They keep a file from taking all memory or time. What counts are the fields of :obj:`crystalssl.LIMITS` when a file
    is read: set them there.

    Parameters
    ----------
    bytes : int, default=8 MiB
        Size of a crystal's file or text, as it is and expanded where it is compressed.
    sites : int, default=20,000
        Atoms in the cell, all images by symmetry counted.
    json_bytes : int, default=1 MiB
        Size of a config.json or graphs.json; they have some thousand bytes.
    header_bytes : int, default=4 MiB
        Size of the header of a safetensors file. That of a checkpoint holds the history, some 300 bytes an epoch.
    weights_bytes : int, default=128 MiB
        Size of a model.safetensors: 33 million weights, where the encoders have less than one by default.
    checkpoint_bytes : int, default=512 MiB
        Size of a checkpoint, which holds the weights some six times: current, average, best, and for the optimizer.
    dataset_bytes : int, default=512 MiB
        Size of a data set's file, of a page of a database or of results of Matbench, as it is on the disk.
    expansion : int, default=50
        How many times larger these may become where they are compressed. Crystals as JSON become 5 to 10 times larger,
        zeros 1,000.

    Examples
    --------
    >>> from crystalssl import LIMITS
    >>> LIMITS.sites
    20000
    >>> LIMITS.sites = 100_000  # for very large cells
    >>> LIMITS.sites = 20_000
    """

    bytes: int = 2**23
    sites: int = 20_000
    json_bytes: int = 2**20
    header_bytes: int = 2**22
    weights_bytes: int = 2**27
    checkpoint_bytes: int = 2**29
    dataset_bytes: int = 2**29
    expansion: int = 50

    def check_sites(self, n_sites: int) -> None:
        """Raise ValueError if a crystal has too many atoms.

        Parameters
        ----------
        n_sites : int
            Number of atoms.
        """
        if n_sites > self.sites:
            raise ValueError(
                f"it holds {n_sites:,} sites, more than the {self.sites:,} of crystalssl.LIMITS.sites; raise that "
                "limit if the crystal is meant to be that large"
            )


LIMITS = Limits()
"""The limits that all readers heed; set its fields to change them."""
