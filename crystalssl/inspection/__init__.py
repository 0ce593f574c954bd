"""How far predictions can be trusted, and why they are what they are. pandas is loaded when a function is called."""

from crystalssl.inspection._contributions import atom_contributions
from crystalssl.inspection._domain import domain
from crystalssl.inspection._neighbors import neighbors
from crystalssl.inspection._transfer import transfer_report

__all__ = ["atom_contributions", "domain", "neighbors", "transfer_report"]
