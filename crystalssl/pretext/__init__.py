"""Encoder and batch in, loss out. Adding a pretext task: one file, one line in the table below."""

from __future__ import annotations

from crystalssl.pretext._base import PretextTask
from crystalssl.pretext.barlow import BarlowTwins
from crystalssl.pretext.simsiam import SimSiam

__all__ = ["TASKS", "BarlowTwins", "PretextTask", "SimSiam"]

TASKS: dict[str, type[PretextTask]] = {
    cls.name: cls for cls in (BarlowTwins, SimSiam)
}
"""Pretext tasks by the name that users pass as ``method=`` or ``pretrain=``."""
