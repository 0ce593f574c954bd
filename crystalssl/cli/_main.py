"""The command ``crystalssl``: its help, and what becomes of errors."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import click

from crystalssl._version import __version__
from crystalssl.cli._failures import INTERRUPTED, Interrupted, in_one_line
from crystalssl.cli._options import ARGUMENTS
from crystalssl.cli.embed import embed
from crystalssl.cli.fit import fit
from crystalssl.cli.graphs import graphs
from crystalssl.cli.info import info
from crystalssl.cli.map import map
from crystalssl.cli.matbench import matbench
from crystalssl.cli.predict import predict
from crystalssl.cli.pretrain import pretrain
from crystalssl.cli.screen import screen

__all__ = ["cli", "main"]


class _Group(click.Group):
    """Commands whose errors are one line, and whose warnings are one line each."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = [*args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands]  # in the order of the story, not of the alphabet

    def invoke(self, ctx: click.Context) -> Any:
        state: dict[str, Any] = ctx.ensure_object(dict)
        with warnings.catch_warnings():
            warnings.filterwarnings("default", category=UserWarning)
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
                raise  # the last where whoever reads our output has gone, as `head` does; click knows what to do
            except KeyboardInterrupt as error:
                if state.get("debug"):
                    raise
                note = f" {error}" if isinstance(error, Interrupted) else ""
                start = "\n" if sys.stderr.isatty() else ""  # below a bar of progress
                click.echo(f"{start}Interrupted.{note}", err=True)
                ctx.exit(error.status if isinstance(error, Interrupted) else INTERRUPTED)
            except Exception as error:
                if state.get("debug"):
                    raise
                raise click.ClickException(in_one_line(error)) from error


def _show_warning(message: Any, category: Any, filename: Any, lineno: Any, file: Any = None, line: Any = None) -> None:
    click.echo(f"Warning: {in_one_line(message)}", err=True)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`crystalssl COMMAND --help` says more, with examples. Documentation: docs/cli.md in the repository.",
)
@click.version_option(__version__, message="crystalssl %(version)s")
def cli() -> None:
    """Predict properties of crystals from few labels.

    Train a model on crystals whose property you know. A folder of CIF files and a table will do:

    \b
        crystalssl fit cifs/ --target id_prop.csv -o model

    Predict for others, in any format, one file or millions:

    \b
        crystalssl predict model new/*.cif -o out.csv
        crystalssl screen model big.parquet --top 20 -o best.csv

    The model is a folder. Its card says what it was trained on, and nothing in it is executed when it is read:

    \b
        crystalssl info model

    Models start from encoders that were pretrained on crystals without labels. Some ship with the package; pretrain one
    on crystals of your own, and name it:

    \b
        crystalssl pretrain corpus/ -o weights
        crystalssl fit cifs/ --target id_prop.csv --pretrain weights -o model
    """


for command in (fit, predict, screen, embed, pretrain, map, graphs, matbench, info):
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    cli(prog_name="crystalssl")
