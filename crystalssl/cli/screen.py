"""``crystalssl screen``: the best of many crystals."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import click

from crystalssl.cli import _options as options
from crystalssl.cli._failures import Interrupted

__all__ = ["screen"]


@click.command(short_help="Keep the best of any number of crystals.")
@click.argument("model", type=click.Path(), metavar="MODEL")
@options.source
@click.option("-n", "--top", type=click.IntRange(1), default=20, show_default=True, help="How many to keep.")
@click.option("--smallest", is_flag=True, help="Keep the smallest predictions, not the largest.")
@click.option("--target", metavar="NAME", help="Target to go by, of a model that has several.")
@click.option("--class", "label", metavar="LABEL", help="Class whose probability to go by, of a classifier.")
@click.option("--domain", is_flag=True, help="Say how far each is from the crystals of training, and whether too far.")
@click.option(
    "--all",
    "everything",
    type=click.Path(),
    metavar="FOLDER",
    help="Write what is predicted of every crystal, as Parquet; what is there already is not predicted again.",
)
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
    domain: bool,
    everything: str | None,
    output: str | None,
    device: str,
    reading: dict[str, Any],
) -> None:
    """Keep the crystals with the largest predictions, out of any number.

    \b
        crystalssl screen model big.parquet --top 20 -o best.csv
        crystalssl screen model a.parquet b.parquet --smallest --top 100
        crystalssl screen model huge.parquet --domain --all predictions -o best.parquet

    No more than some thousand crystals are in memory at a time. Of equal predictions the earlier one is kept. With
    --all, the predictions of all are in a folder of Parquet files, and after Ctrl-C, or a crash, the same command goes
    on behind the last of them. Records that cannot be used are listed in OUTPUT.failed.csv, or on stderr, and the exit
    status is then 3.
    """
    from crystalssl.cli._applying import load_predictor
    from crystalssl.cli._predictions import Predictions, settings_of
    from crystalssl.cli._records import Failures
    from crystalssl.cli._table import open_table

    if everything is not None and source == ("-",):
        raise click.BadParameter("what comes from stdin cannot be gone on with", param_hint="--all")
    predictor = load_predictor(model, device, domain)
    by = _column_to_go_by(predictor.model, target, label)
    stored = None
    if everything is not None:
        stored = Predictions(everything, predictor.types(), settings_of(model, source, predictor.columns, reading))
    sign = -1 if smallest else 1
    # The least of those that are kept comes first, and of equal ones the latest, since the numbers fall.
    best: list[tuple[float, int, tuple]] = []
    number = 0
    with Failures(output) as failures, open_table(output, ["rank", "id", *predictor.columns]) as table:
        try:
            for ids, values, failed in _predicted(predictor, source, stored, reading):
                failures.add([tuple(record) for record in failed])
                for row in zip(ids, *values, strict=True):
                    number -= 1
                    entry = (sign * row[1 + by], number, row)
                    if len(best) < top:
                        heapq.heappush(best, entry)
                    else:
                        heapq.heappushpop(best, entry)
        except KeyboardInterrupt:
            if stored is None:
                raise
            command = options.command_line(ctx)
            raise Interrupted(f"What was predicted is in {everything}; go on with: {command}") from None
        table.write([(rank, *found) for rank, (_, _, found) in enumerate(sorted(best, reverse=True), 1)])
    predictor.finish()
    failures.exit(ctx)


def _predicted(predictor: Any, source: tuple[str, ...], stored: Any, reading: dict[str, Any]) -> Iterator[Any]:
    """Yield what is predicted of some crystals after others: first what is stored, then the rest, which is stored."""
    from crystalssl.cli._applying import apply
    from crystalssl.cli._predictions import Predicted
    from crystalssl.cli._records import parts

    ids: list[str] = []
    if stored is not None:
        for predicted in stored.read():
            ids += predicted.ids
            yield predicted
    start = 0 if stored is None else len(stored.paths)
    encoder = type(predictor.model.net_.module_.encoder)
    for part in parts(source, encoder, start, known_ids=ids, **reading):
        applied = apply(predictor, part.graphs)
        names = [part.ids[row] for row in applied.rows.tolist()]
        values = [column.tolist() for column in applied.values] or [[] for _ in predictor.columns]
        predicted = Predicted(names, values, [list(row) for row in part.problems + applied.problems_of(part)])
        if stored is not None:
            stored.write(predicted)
        yield predicted


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
