"""``crystalssl graphs``: crystals as graphs on the disk, made once."""

from __future__ import annotations

import re
from typing import Any

import click

from crystalssl.cli import _options as options
from crystalssl.cli._failures import Interrupted

__all__ = ["graphs"]


@click.command(short_help="Make the graphs of crystals once.")
@options.source
@options.output("Folder of the graphs; one that was begun is gone on with.", required=True)
@click.option("--encoder", default="gatedgcn", show_default=True, metavar="NAME", help="Encoder that will read them.")
@click.option("--cutoff", type=float, metavar="Å", help="Longest edge, if not the encoder's.")
@click.option("--max-neighbors", type=int, metavar="N", help="Neighbours of an atom, if not the encoder's.")
@click.option(
    "--shard-size", type=click.IntRange(1, 65_536), default=4096, show_default=True, help="Records of a shard."
)
@click.option("--part", metavar="K/N", help="Which of N processes this is, of which each makes a part.")
@options.reading
@click.pass_context
def graphs(
    ctx: click.Context,
    source: tuple[str, ...],
    output: str,
    encoder: str,
    cutoff: float | None,
    max_neighbors: int | None,
    shard_size: int,
    part: str | None,
    reading: dict[str, Any],
) -> None:
    """Make the graphs of any number of crystals once, for training and predicting many times.

    \b
        crystalssl graphs corpus.parquet -o graphs
        crystalssl predict model graphs -o out.csv
        crystalssl pretrain graphs -o weights

    They are written in a stream, shard by shard. After Ctrl-C, or a crash, the same command goes on where it stopped.
    Several processes, on one machine or many, share the work:

    \b
        crystalssl graphs huge.parquet -o graphs --part 1/8     # and 2/8, 3/8, ...

    In Python, CrystalCorpus.load(folder) opens the folder, and has the ids. Records that cannot be used are listed in
    OUTPUT.failed.csv once all parts are finished, and the exit status is then 3.
    """
    from crystalssl import CrystalCorpus, CrystalGraphTransformer
    from crystalssl.cli._records import Failures, source_of
    from crystalssl.graphs._manifest import unfinished_parts
    from crystalssl.io import write_corpus

    number, n_parts = _part(part)
    recipe = CrystalGraphTransformer(encoder, cutoff=cutoff, max_neighbors=max_neighbors)
    with Failures(output) as failures:
        try:
            write_corpus(
                source_of(source),
                output,
                encoder=recipe,
                on_error="report",
                shard_size=shard_size,
                part=number,
                n_parts=n_parts,
                **reading,
            )
        except KeyboardInterrupt:
            command = options.command_line(ctx)
            raise Interrupted(f"What was made is in {output}; go on with: {command}") from None
        if left := unfinished_parts(output):
            click.echo(f"{output}: part {part} is finished, {len(left)} of {n_parts} are not", err=True)
            return
        corpus = CrystalCorpus.load(output)
        failures.add_report(corpus.report)
    click.echo(f"{output}: {corpus}", err=True)
    failures.exit(ctx)


def _part(text: str | None) -> tuple[int, int]:
    """Return the number of a part from 0, and how many there are."""
    if text is None:
        return 0, 1
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"{text!r} is not of the form K/N, such as 1/8 to 8/8", param_hint="--part")
    return int(match[1]) - 1, int(match[2])
