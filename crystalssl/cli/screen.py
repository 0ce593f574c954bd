"""``crystalssl screen``: the best of many crystals."""

from __future__ import annotations

import heapq
from typing import Any

import click

from crystalssl.cli import _options as options

__all__ = ["screen"]


@click.command(short_help="Keep the best of any number of crystals.")
@click.argument("model", type=click.Path(), metavar="MODEL")
@options.source
@click.option("-n", "--top", type=click.IntRange(1), default=20, show_default=True, help="How many to keep.")
@click.option("--smallest", is_flag=True, help="Keep the smallest predictions, not the largest.")
@click.option("--target", metavar="NAME", help="Target to go by, of a model that has several.")
@click.option("--class", "label", metavar="LABEL", help="Class whose probability to go by, of a classifier.")
@options.table
@options.device
@options.reading
@click.pass_context
def screen(
    ctx: click.Context,
    model: str,
    source: tuple[str, ...],
    top: int,
    smallest: bool,
    target: str | None,
    label: str | None,
    output: str | None,
    device: str,
    reading: dict[str, Any],
) -> None:
    """Keep the crystals with the largest predictions, out of any number.

    \b
        crystalssl screen model big.parquet --top 20 -o best.csv
        crystalssl screen model a.parquet b.parquet --smallest --top 100

    No more than some thousand crystals are in memory at a time. Of equal predictions the earlier one is kept. Records
    that cannot be used are listed in OUTPUT.failed.csv, or on stderr, and the exit status is then 3.
    """
    from crystalssl.cli._applying import apply, load_predictor
    from crystalssl.cli._records import Failures, parts
    from crystalssl.cli._table import open_table

    predictor = load_predictor(model, device)
    by = _column_to_go_by(predictor.model, target, label)
    encoder = type(predictor.model.net_.module_.encoder)
    sign = -1 if smallest else 1
    # The least of those that are kept comes first, and of equal ones the latest, since the numbers fall.
    best: list[tuple[float, int, tuple]] = []
    number = 0
    with Failures(output) as failures, open_table(output, ["rank", "id", *predictor.columns]) as table:
        for part in parts(source, encoder, **reading):
            applied = apply(predictor, part.graphs)
            failures.add(part.problems + applied.problems_of(part))
            values = [column.tolist() for column in applied.values]
            for row, *found in zip(applied.rows.tolist(), *values, strict=True):
                number -= 1
                entry = (sign * found[by], number, (part.ids[row], *found))
                if len(best) < top:
                    heapq.heappush(best, entry)
                else:
                    heapq.heappushpop(best, entry)
        table.write([(rank, *found) for rank, (_, _, found) in enumerate(sorted(best, reverse=True), 1)])
    predictor.finish()
    failures.exit(ctx)


def _column_to_go_by(model: Any, target: str | None, label: str | None) -> int:
    """Return the number of the column that decides."""
    if hasattr(model, "classes_"):
        if target is not None:
            raise click.BadParameter("the model is a classifier: name a class with --class", param_hint="--target")
        labels = [str(known) for known in model.classes_.tolist()]
        if label is None and len(labels) == 2:
            label = labels[1]
        if label not in labels:
            raise click.BadParameter(f"name one of the classes {', '.join(labels)}", param_hint="--class")
        return 1 + labels.index(label)
    if label is not None:
        raise click.BadParameter("the model is a regressor and has no classes", param_hint="--class")
    names = model.target_names_
    if target is None and len(names) == 1:
        return 0
    if target not in names:
        raise click.BadParameter(f"name one of the targets {', '.join(names)}", param_hint="--target")
    return names.index(target)
