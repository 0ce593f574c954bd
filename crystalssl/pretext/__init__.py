"""Encoder and batch in, loss out. Adding a pretext task: one file, one line in the table below."""

from __future__ import annotations

from crystalssl.pretext._base import PretextTask
from crystalssl.pretext._labels import surrogate_classes
from crystalssl.pretext.barlow import BarlowTwins
from crystalssl.pretext.cdssl import CrystalDenoising
from crystalssl.pretext.composite import Composite
from crystalssl.pretext.cosine import CosineContrast
from crystalssl.pretext.denoise import DistanceDenoising
from crystalssl.pretext.dssl import DSSL, DSSLStiffness, DSSLValence
from crystalssl.pretext.joint import Joint, KnownProperties
from crystalssl.pretext.mask import MaskedElements
from crystalssl.pretext.microproperties import AtomicStiffness, ValenceElectrons, atomic_stiffness
from crystalssl.pretext.simclr import SimCLR
from crystalssl.pretext.simsiam import SimSiam
from crystalssl.pretext.spmat import SPMatBarlow, SPMatSimCLR

__all__ = [
    "DSSL",
    "TASKS",
    "AtomicStiffness",
    "BarlowTwins",
    "Composite",
    "CosineContrast",
    "CrystalDenoising",
    "DSSLStiffness",
    "DSSLValence",
    "DistanceDenoising",
    "Joint",
    "KnownProperties",
    "MaskedElements",
    "PretextTask",
    "SPMatBarlow",
    "SPMatSimCLR",
    "SimCLR",
    "SimSiam",
    "ValenceElectrons",
    "atomic_stiffness",
    "surrogate_classes",
]

TASKS: dict[str, type[PretextTask]] = {
    cls.name: cls
    for cls in (
        BarlowTwins,
        SimSiam,
        CrystalDenoising,
        SPMatSimCLR,
        SPMatBarlow,
        DSSL,
        DSSLValence,
        DSSLStiffness,
        SimCLR,
        MaskedElements,
        CosineContrast,
        ValenceElectrons,
        AtomicStiffness,
        DistanceDenoising,
        KnownProperties,
        Joint,
        Composite,
    )
}
"""Pretext tasks by the name that users pass as ``method=`` or ``pretrain=``."""
