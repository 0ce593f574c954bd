"""Encoder and batch in, loss out. Adding a pretext task: one file, registered, and imported here.

Those of other people are registered with :func:`register_task`, or found by entry points.
"""

from __future__ import annotations

from crystalssl._ranks import global_mean, global_rows
from crystalssl.pretext._base import PretextTask, TwoViews, mlp
from crystalssl.pretext._labels import surrogate_classes
from crystalssl.pretext._registry import TASKS, register_task, resolve_task
from crystalssl.pretext.barlow import BarlowTwins
from crystalssl.pretext.byol import BYOL
from crystalssl.pretext.cdssl import CrystalDenoising
from crystalssl.pretext.composite import Composite
from crystalssl.pretext.cosine import CosineContrast
from crystalssl.pretext.denoise import DistanceDenoising
from crystalssl.pretext.dssl import DSSL, DSSLStiffness, DSSLValence
from crystalssl.pretext.forces import Forces
from crystalssl.pretext.joint import Joint, KnownProperties
from crystalssl.pretext.mask import MaskedElements
from crystalssl.pretext.microproperties import AtomicStiffness, ValenceElectrons, atomic_stiffness
from crystalssl.pretext.simclr import SimCLR
from crystalssl.pretext.simsiam import SimSiam
from crystalssl.pretext.spmat import SPMatBarlow, SPMatSimCLR

__all__ = [
    "BYOL",
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
    "Forces",
    "Joint",
    "KnownProperties",
    "MaskedElements",
    "PretextTask",
    "SPMatBarlow",
    "SPMatSimCLR",
    "SimCLR",
    "SimSiam",
    "TwoViews",
    "ValenceElectrons",
    "atomic_stiffness",
    "global_mean",
    "global_rows",
    "mlp",
    "register_task",
    "resolve_task",
    "surrogate_classes",
]
