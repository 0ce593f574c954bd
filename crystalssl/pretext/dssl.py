"""DSSL: masked atoms, two perturbed views, and microproperties of atoms."""

from __future__ import annotations

from typing import ClassVar

from crystalssl.pretext._base import PretextTask
from crystalssl.pretext._registry import register_task
from crystalssl.pretext.composite import WeightedTasks
from crystalssl.pretext.cosine import CosineContrast
from crystalssl.pretext.mask import MaskedElements
from crystalssl.pretext.microproperties import AtomicStiffness, ValenceElectrons

__all__ = ["DSSL", "DSSLStiffness", "DSSLValence"]


@register_task
class DSSL(WeightedTasks):
    """Dual self-supervised learning, eq. 5 without microproperties: ``α L_mask + β L_contrast``.

    Parameters
    ----------
    alpha, beta : float, default=1.0
        Weights of masking and contrast. The paper does not give them.
    atom_masking : float, default=0.15
        Share of atoms that are masked.
    perturbation : float, default=0.05
        Displacement of every atom in the contrasted views, in Å.

    References
    ----------
    N. Fu, L. Wei and J. Hu, J. Phys. Chem. Lett. 15, 2841 (2024), doi:10.1021/acs.jpclett.4c00100.
    """

    name = "dssl"
    encoder_name = "deepergatgnn"

    def __init__(self, alpha: float = 1.0, beta: float = 1.0, atom_masking: float = 0.15, perturbation: float = 0.05):
        tasks = [MaskedElements(atom_masking), CosineContrast(perturbation=perturbation)]
        super().__init__(tasks, [alpha, beta])


class DSSLMicroproperty(WeightedTasks):
    """Base of the tasks of DSSL with a microproperty: ``α L_mask + β L_contrast + γ L_micro``, eq. 5.

    Parameters
    ----------
    alpha, beta, gamma : float, default=1.0
        Weights of masking, contrast and the microproperty. The paper does not give them.
    atom_masking : float, default=0.15
        Share of atoms that are masked.
    perturbation : float, default=0.05
        Displacement of every atom in the contrasted views, in Å.
    """

    encoder_name = "deepergatgnn"
    microproperty: ClassVar[type[ValenceElectrons] | type[AtomicStiffness]]

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        atom_masking: float = 0.15,
        perturbation: float = 0.05,
    ):
        tasks: list[PretextTask] = [MaskedElements(atom_masking), CosineContrast(perturbation=perturbation)]
        super().__init__([*tasks, self.microproperty(atom_masking)], [alpha, beta, gamma])


@register_task
class DSSLValence(DSSLMicroproperty):
    """:class:`DSSL` with the number of valence electrons as microproperty, "DSSL+VE" of the paper.

    Parameters
    ----------
    %(parameters)s
    """

    name = "dssl-ve"
    microproperty = ValenceElectrons


@register_task
class DSSLStiffness(DSSLMicroproperty):
    """:class:`DSSL` with the atomic stiffness as microproperty, "DSSL+AS" of the paper.

    Parameters
    ----------
    %(parameters)s
    """

    name = "dssl-as"
    microproperty = AtomicStiffness
