"""``crystalssl map``: crystals as points on a page for the browser."""

from __future__ import annotations

from typing import Any

import click

from crystalssl.cli import _options as options

__all__ = ["map"]


@click.command(short_help="Draw crystals as a page to look at, search and select.")
@options.source
@options.output("Page to write.", required=True)
@click.option(
    "-m", "--model", metavar="MODEL", help="Model folder: its vectors, its predictions, and how far it knows crystals."
)
@click.option(
    "-w",
    "--weights",
    metavar="NAME",
    help="Weights of the encoder whose vectors are drawn: their name, or a weights folder.  [default: joint]",
)
@options.targets("Column to colour by; give it several times for several.")
@click.option(
    "--projection",
    type=click.Choice(["pca", "tsne", "umap"]),
    default="pca",
    show_default=True,
    help="How to come to two dimensions; umap takes umap-learn.",
)
@click.option("--title", metavar="TEXT", help="Title of the page; that of the source if not given.")
@options.seed
@options.device
@options.reading
@click.pass_context
def map(
    ctx: click.Context,
    source: tuple[str, ...],
    output: str,
    model: str | None,
    weights: str | None,
    targets: tuple[str, ...],
    projection: str,
    title: str | None,
    seed: int,
    device: str,
    reading: dict[str, Any],
) -> None:
    """Draw crystals as points, near each other where an encoder finds them alike.

    \b
        crystalssl map candidates.parquet -o map.html
        crystalssl map labelled.csv --target density --projection tsne -o map.html
        crystalssl map candidates.parquet --model model -o map.html

    The page is one file that needs no network: points coloured by any column, search by formula or elements, a lasso
    whose ids can be exported, and the unit cell of a crystal that is clicked on. With a model there are columns of its
    predictions, of their deviations, and of how far crystals are from its training. Records that cannot be used are
    listed in OUTPUT.failed.csv, and the exit status is then 3.
    """
    from pathlib import Path

    from crystalssl.cli._applying import load_predictor
    from crystalssl.cli._records import Failures
    from crystalssl.estimators import PretrainedCrystalEmbedder, load
    from crystalssl.plotting import write_map
    from crystalssl.plotting._embedding import check_projection, project, vectors_of
    from crystalssl.training._weights import weights_folder

    if Path(output).suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"{output} must end in .html", param_hint="--output")
    if model is not None and weights is not None:
        raise click.BadParameter("give a model or weights, not both", param_hint="--weights")
    check_projection(projection)
    predictor = None
    if model is not None:
        predictor = load_predictor(model, device)
        estimator, encoder = predictor.model, predictor.model.net_.module_.encoder
    else:
        name = weights or "joint"
        estimator = load(weights_folder(name))
        if not isinstance(estimator, PretrainedCrystalEmbedder):
            raise ValueError(f"{name} holds a finetuned model; give it as --model")
        estimator.set_params(device=device, verbose=0)
        encoder = estimator.encoder_
    with Failures(output) as failures:
        graphs, ids, columns, problems = _read(source, targets, type(encoder), reading)
        failures.add(problems)
        rows, unknown = _known_rows(graphs, ids, estimator.elements_)
        failures.add(unknown)
        if len(rows) < 3:
            raise ValueError(f"{len(rows)} crystals can be used; a map takes at least 3")
        graphs, ids = graphs[rows], [ids[row] for row in rows]
        columns = {name: values[rows] for name, values in columns.items()}
        if predictor is not None:
            said = _said_by(predictor, graphs)
            if both := sorted(columns.keys() & said.keys()):
                raise click.BadParameter(
                    f"the model's columns have the name {both[0]!r} too; rename it in the source", param_hint="--target"
                )
            columns |= said
        points = project(vectors_of(estimator, graphs), projection, seed)
        write_map(
            output,
            graphs,
            points,
            columns=columns,
            ids=ids,
            title=title or ", ".join(Path(name).name for name in source),
        )
    click.echo(f"{output}: {len(rows)} crystals", err=True)
    failures.exit(ctx)


def _read(
    source: tuple[str, ...], targets: tuple[str, ...], encoder: Any, reading: dict[str, Any]
) -> tuple[Any, list[str], dict[str, Any], list[tuple[Any, ...]]]:
    """Return graphs, ids, columns by name, and records that cannot be used."""
    from crystalssl import CrystalGraphs
    from crystalssl.cli._records import parts, read
    from crystalssl.plotting._axes import with_unit

    if not targets:
        found = list(parts(source, encoder, **reading))
        problems = [problem for part in found for problem in part.problems]
        found = [part for part in found if len(part.graphs)]
        if not found:
            raise ValueError("no record can be used")
        graphs = CrystalGraphs.concatenate([part.graphs for part in found])
        return graphs, [name for part in found for name in part.ids], {}, problems
    data = read(source, targets, encoder=encoder, on_error="report", **reading)
    frame = data.target.to_frame() if data.target.ndim == 1 else data.target
    units = data.target.attrs["unit"]
    columns = {with_unit(name, units[name] or ""): _numbers_or_texts(frame[name]) for name in frame.columns}
    report = data.report
    return data.data, list(data.ids), columns, report.astype(object).where(report.notna(), None).to_numpy().tolist()


def _numbers_or_texts(column: Any) -> Any:
    """Return numbers, if all that is known are; beside a column of texts they were read as texts."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    known = column.notna() & ~column.astype(str).isin(["", "nan", "None"])
    return numbers.to_numpy(dtype=float) if numbers[known].notna().all() else column.to_numpy()


def _known_rows(graphs: Any, ids: list[str], elements: Any) -> tuple[Any, list[tuple[Any, ...]]]:
    """Return the rows of crystals whose elements the weights have seen, and the others as records with a reason."""
    import numpy as np
    from pymatgen.core import Element

    if not len(elements):
        return np.arange(len(graphs)), []
    unknown = ~np.isin(graphs.atomic_numbers, elements)
    counts = np.add.reduceat(unknown, graphs.atom_offsets[:-1], dtype=int)
    problems = []
    for row in np.flatnonzero(counts).tolist():
        atoms = slice(graphs.atom_offsets[row], graphs.atom_offsets[row + 1])
        symbols = [Element.from_Z(int(z)).symbol for z in np.unique(graphs.atomic_numbers[atoms][unknown[atoms]])]
        problems.append((ids[row], None, None, f"the encoder's weights have never seen {', '.join(symbols)}"))
    return np.flatnonzero(counts == 0), problems


def _said_by(predictor: Any, graphs: Any) -> dict[str, Any]:
    """Return what a model says of crystals, by the names of columns."""
    from crystalssl.inspection import domain
    from crystalssl.plotting._axes import with_unit

    model = predictor.model
    unit = ""
    if getattr(model, "target_units_", None) and len(model.target_names_) == 1:
        unit = model.target_units_[0] or ""
    columns = dict(zip(predictor.columns, predictor(graphs), strict=True))
    columns = {with_unit(name, "" if name.startswith("probability_") else unit): v for name, v in columns.items()}
    predictor.finish()
    if getattr(model, "_record", None) is None:  # of an earlier version, which kept nothing of its training
        return columns
    known = domain(model, graphs)
    return {
        **columns,
        "distance from training (percentile)": known.percentile.to_numpy(),
        "domain": known.verdict.to_numpy(),
    }
