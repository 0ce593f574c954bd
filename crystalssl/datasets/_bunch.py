"""The one shape in which data sets are handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from pymatgen.core import Structure
    from sklearn.utils import Bunch


def package(
    structures: list[Structure],
    target: np.ndarray,
    target_name: str,
    *,
    return_X_y: bool,
    as_frame: bool,
    tags: pd.DataFrame | None = None,
    **fields: Any,
) -> Bunch | tuple[Any, Any]:
    """Arrange structures and target the way scikit-learn's data sets are arranged.

    Parameters
    ----------
    structures : list of pymatgen.core.Structure
        The crystals.
    target : ndarray of shape (n_crystals,)
        The property.
    target_name : str
        Its name, also the column of the frame.
    return_X_y : bool
        Whether to return only ``(data, target)``.
    as_frame : bool
        Whether data and target are pandas Series and ``frame`` a DataFrame.
    tags : pandas.DataFrame or None, default=None
        Further columns for the frame, one row per crystal; also a field of the Bunch.
    **fields : Any
        Further fields of the Bunch.

    Returns
    -------
    sklearn.utils.Bunch or tuple
    """
    data: Any = structures
    frame = None
    if as_frame:
        import pandas as pd

        # A Structure is a sequence of sites: what to make of a list of sequences is not left to pandas to infer.
        data = pd.Series(structures, dtype=object, name="structure")
        target = pd.Series(target, name=target_name)
        frame = pd.concat([data, *([] if tags is None else [tags]), target], axis=1)
    if return_X_y:
        return data, target

    from sklearn.utils import Bunch

    if tags is not None:
        fields["tags"] = tags
    return Bunch(data=data, target=target, frame=frame, target_names=[target_name], **fields)
