"""Crystals from any source, all at once."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.exceptions import DatasetError, SkippedStructureWarning
from crystalssl.graphs import CrystalGraphs
from crystalssl.io._chunk import report_of
from crystalssl.io._stream import iter_crystals

if TYPE_CHECKING:
    from sklearn.utils import Bunch

__all__ = ["read_crystals"]


def read_crystals(
    source: Any,
    target: Any = None,
    *,
    structure: str | None = None,
    id: str | None = None,
    on_error: str = "raise",
    keep_unlabelled: bool = False,
    as_graphs: bool = False,
    encoder: Any = "gatedgcn",
    n_jobs: int | None = None,
    return_X_y: bool = False,
    verbose: int = 1,
) -> Bunch | tuple[Any, Any]:
    r"""Read crystals, and what is to be predicted of them, from files, folders, archives, tables or lists.

    What a file is, its content decides; its name counts where the content does not. Files may be compressed (gzip,
    bzip2, xz). Nothing in them is executed, no name in a table or archive leads out of its folder, and no more is
    expanded than files of crystals are.

    Parameters
    ----------
    source : path, glob, DataFrame, list or binary stream
        One of

        - a file: CIF (each structure in it), POSCAR, CONTCAR, pymatgen or jarvis JSON, XSF, CSSR, RES, mcsqs;
        - a table with one crystal per row, as CIF, POSCAR or JSON text, or the name of a file beside the table: CSV
          with commas, semicolons (and decimal commas) or tabs, in UTF-8, UTF-16 or Windows' encoding; Parquet, Feather
          or Arrow, in a stream, also with OPTIMADE's columns; JSON as pandas writes it, lists of records, JSON lines;
        - frames: extended XYZ, ASE trajectories and databases, XDATCAR, vasprun.xml (``crystalssl[ase]``);
        - a folder, glob (``"cifs/**/*.cif"``), zip or tar archive of these;
        - a DataFrame of pandas or polars, or a list of paths, crystals or records in memory.
    target : str, path, sequence or None, default=None
        Name of the column to predict (``"gap"`` also stands for a column ``"gap (eV)"``, ``"output.gap"`` goes into
        nested records), a sequence of names, or the path of a table by id, such as ``"id_prop.csv"`` in a folder. None
        reads crystals alone.
    structure : str or None, default=None
        Column of the crystals; None finds it.
    id : str or None, default=None
        Column of the ids. None takes a usual one (``"material_id"``, ``"jid"``, …), else the index of a frame, the name
        of a file, or file and row.
    on_error : {"raise", "report"}, default="raise"
        What is done with a record that cannot be used: raise an error that names it, or leave it out and list it in
        ``report``. That is one that is no crystal, or not ordered, periodic and complete, whose id occurred before, or
        whose target is missing, infinite or of another kind than those of the others.
    keep_unlabelled : bool, default=False
        Whether crystals without any target are kept, with NaN. Of several targets some may always be missing.
    as_graphs : bool, default=False
        Whether to return :class:`~crystalssl.CrystalGraphs`, without a `Structure` ever being made.
    encoder : str, Encoder, type, GraphRecipe or CrystalGraphTransformer, default="gatedgcn"
        The encoder that will read the graphs, as in :class:`~crystalssl.CrystalGraphTransformer`, or their recipe.
    n_jobs : int or None, default=None
        Processes that parse and build graphs. None means 1 unless in a :obj:`joblib.parallel_backend` context.
    return_X_y : bool, default=False
        Whether to return ``(data, target)``. What is left out is then told of by a warning.
    verbose : int, default=1
        Above 0, a progress bar is shown on stderr if it takes more than three seconds.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        With ``return_X_y=True``, ``(data, target)``. Else a Bunch with

        data : list of pymatgen.core.Structure or CrystalGraphs
            The crystals, in the order of the source; the files of a folder in that of their names.
        target : ndarray of shape (n_crystals,) or (n_crystals, n_targets), or None
            float64, bool, or object for names of classes. Of several targets a missing one is NaN (None in objects).
        target_names : list of str
            Names of the targets.
        ids : ndarray of shape (n_crystals,), dtype object
            Ids, each unique.
        unit : str, list or None
            Unit of the target that the source states (``"gap (eV)"``, a Parquet field's ``unit``); a list for several.
        report : pandas.DataFrame
            Each record that is left out, with the columns ``id``, ``row`` (from 0, below a header; missing for a file
            of one crystal), ``file`` and ``reason``. With ``on_error="raise"`` these are only files of a folder that
            hold no crystals, or that the table of targets does not list.
        notes : pandas.DataFrame
            Columns ``id``, ``row``, ``file`` and ``note``: what is odd in files that are read all the same.
        rows, files : list
            Row and file of each crystal.
        DESCR : str
            Summary.

    Raises
    ------
    DatasetError
        If the source is not there, cannot be read at all, holds no records, or has no such column.
    RecordError
        With ``on_error="raise"``, if a record cannot be used. The message names it, its row and its file; the exception
        has them as ``index``, ``id``, ``row`` and ``file``.
    ImportError
        If the library that a format needs is not installed.

    Warns
    -----
    SkippedStructureWarning
        If something is left out that the caller may not expect: files of a folder, or records with ``return_X_y=True``.
    UserWarning
        If there are notes.

    See Also
    --------
    iter_crystals : The same in chunks, for sources larger than memory.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.io import read_crystals
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number, crystal in enumerate(load_prototypes().data[:3]):
    ...         text = crystal.to(fmt="cif", filename=f"{folder}/{number}.cif")
    ...     table = Path(folder, "id_prop.csv").write_text("0,1.5\n1,0.2\n2,NaN\n")
    ...     crystals = read_crystals(folder, target="id_prop.csv", on_error="report")
    >>> len(crystals.data), crystals.ids.tolist(), crystals.target.tolist()
    (2, ['0', '1'], [1.5, 0.2])
    >>> crystals.report[["id", "reason"]].values.tolist()
    [['2', "its target 'target' is missing; leave it out, or keep it with keep_unlabelled=True"]]
    """
    chunks = list(
        iter_crystals(
            source,
            target,
            structure=structure,
            id=id,
            on_error=on_error,
            keep_unlabelled=keep_unlabelled,
            as_graphs=as_graphs,
            encoder=encoder,
            n_jobs=n_jobs,
            verbose=verbose,
        )
    )
    problems = [problem for chunk in chunks for _, problem in chunk.problems]
    notes = [note for chunk in chunks for note in chunk.notes]
    n_crystals = sum(map(len, chunks))
    if not n_crystals and not problems:
        raise DatasetError(f"{_name(source)} holds no crystals.")
    if problems and (return_X_y or on_error == "raise"):
        warnings.warn(
            f"{len(problems)} records or files of {_name(source)} are left out, the first ({_where(problems[0])}) "
            f"because: {problems[0].reason}{'' if return_X_y else '. See report for all'}",
            SkippedStructureWarning,
            stacklevel=2,
        )
    if notes:
        warnings.warn(
            f"{len(notes)} crystals of {_name(source)} are read with remarks, the first ({_where(notes[0])}): "
            f"{notes[0].reason}{'' if return_X_y else '. See notes for all'}",
            UserWarning,
            stacklevel=2,
        )
    full = [chunk for chunk in chunks if len(chunk)] or chunks[:1]  # types of empty ones are not those of the others
    data: Any
    if as_graphs:
        data = CrystalGraphs.concatenate([chunk.data for chunk in full]) if len(full) > 1 else full[0].data
    else:
        data = [crystal for chunk in full for crystal in chunk.data]
    targets = [chunk.target for chunk in full if chunk.target is not None]
    values = np.concatenate(targets) if targets else None
    if return_X_y:
        return data, values

    from sklearn.utils import Bunch

    names = full[0].target_names
    units = [full[-1].units.get(name) for name in names]
    ids = np.empty(n_crystals, dtype=object)
    ids[:] = [name for chunk in full for name in chunk.ids]
    return Bunch(
        data=data,
        target=values,
        target_names=names,
        ids=ids,
        unit=(units[0] if values.ndim == 1 else units) if values is not None else None,
        report=report_of(problems),
        notes=report_of(notes, "note"),
        rows=[row for chunk in full for row in chunk.rows],
        files=[file for chunk in full for file in chunk.files],
        DESCR=f"{n_crystals} crystals read from {_name(source)}; {len(problems)} records or files left out.",
    )


def _name(source: Any) -> str:
    if isinstance(source, (str, os.PathLike)) and "\n" not in os.fsdecode(source):
        return os.fsdecode(source)
    return f"the {type(source).__name__}"


def _where(problem: Any) -> str:
    row = "" if problem.row is None else f"row {problem.row} of "
    return f"{row}{problem.file or 'the source'}" + (f", id {problem.id!r}" if problem.id else "")
