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
    target: np.ndarray | pd.DataFrame | None,
    target_name: str | list[str],
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
    target : ndarray of shape (n_crystals,), DataFrame or None
        The property, or several.
    target_name : str or list of str
        Its name, also the column of the frame; a list for a DataFrame, an empty one for None.
    return_X_y : bool
        Whether to return only ``(data, target)``.
    as_frame : bool
        Whether data and a single target are pandas Series and ``frame`` a DataFrame.
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
        if isinstance(target_name, str):
            target = pd.Series(target, name=target_name)
        frame = pd.concat([part for part in (data, tags, target) if part is not None], axis=1)
    if return_X_y:
        return data, target

    from sklearn.utils import Bunch

    if tags is not None:
        fields["tags"] = tags
    names = [target_name] if isinstance(target_name, str) else target_name
    return Bunch(data=data, target=target, frame=frame, target_names=names, **fields)
