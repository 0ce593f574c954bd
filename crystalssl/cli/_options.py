"""Options that several commands share."""

from __future__ import annotations

import functools
import importlib
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from crystalssl._suggestions import did_you_mean

__all__ = [
    "ARGUMENTS",
    "command_line",
    "common",
    "device",
    "jobs",
    "on_error",
    "output",
    "params",
    "reading",
    "seed",
    "set_params",
    "source",
    "table",
    "targets",
]

ARGUMENTS = "crystalssl.arguments"  # where those of the command line are kept
_PARAMS = "crystalssl.params"  # where those of a file are kept

Decorator = Callable[[Any], Any]


def command_line(ctx: click.Context) -> str:
    """Return what was typed, for a shell to run again."""
    return shlex.join(["crystalssl", *ctx.meta[ARGUMENTS]])


def _debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().ensure_object(dict)["debug"] = True


def _config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Take a file's values as defaults of the other options."""
    if value is None:
        return
    settings = _read_config(Path(value))
    known = {name.replace("_", "-"): p.name for p in ctx.command.params for name in [p.name or ""]}
    known |= {opt.lstrip("-"): p.name for p in ctx.command.params for opt in p.opts if opt.startswith("--")}
    several = {p.name for p in ctx.command.params if p.nargs == -1 or getattr(p, "multiple", False)}
    defaults: dict[str, Any] = {}
    for name, setting in settings.items():
        key = name.replace("_", "-")
        if key not in known or known[key] in ("config", "debug"):
            raise click.BadParameter(
                f"{value} sets {name!r}, which is no option of `{ctx.command.name}`.{did_you_mean(key, known)}"
            )
        if known[key] == "params":  # [param] of a TOML file, to which the command line adds
            ctx.meta[_PARAMS] = setting
        else:
            if known[key] in several and not isinstance(setting, list):
                setting = [setting]
            defaults[str(known[key])] = setting
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".toml":
            # Python 3.10 has none of its own.
            settings = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text)
        else:
            settings = json.loads(text)
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path} cannot be read as {path.suffix[1:].upper() or 'JSON'}: {error}") from error
    if not isinstance(settings, dict):
        raise click.BadParameter(f"{path} holds no table of options, but a {type(settings).__name__}")
    return settings


def common(command: Any) -> Any:
    """Add what every command takes."""
    for option in (
        click.option(
            "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_debug, help="Show tracebacks."
        ),
        click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
        click.option(
            "--config",
            type=click.Path(dir_okay=False),
            is_eager=True,
            expose_value=False,
            callback=_config,
            metavar="FILE",
            help="JSON or TOML file with values of these options; the command line has precedence.",
        ),
    ):
        command = option(command)
    return command


def source(command: Any) -> Any:
    """Add the crystals to read."""
    return click.argument("source", nargs=-1, required=True, metavar="SOURCE...")(command)


def output(help: str, required: bool = False) -> Decorator:
    """Add the place to write to."""
    return click.option("-o", "--output", type=click.Path(), metavar="PATH", required=required, help=help)


device = click.option(
    "--device", default="auto", show_default=True, help='Where to compute, such as "cpu" or "cuda:1".'
)
jobs = click.option(
    "-j",
    "--jobs",
    type=int,
    metavar="N",
    help="Processes that read crystals and make graphs; -1 for all cores.",
)
seed = click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same result.")
id_column = click.option("--id", "id_column", metavar="COLUMN", help="Column of the ids; found by itself if not given.")
structure_column = click.option(
    "--structure", "structure_column", metavar="COLUMN", help="Column of the crystals; found by itself if not given."
)
params = click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other parameter of the estimator, such as -p head_dim=64; the value in JSON, or a text.",
)


def on_error(default: str) -> Decorator:
    """Add what is done with records that cannot be used."""
    return click.option(
        "--on-error",
        type=click.Choice(["raise", "report"]),
        default=default,
        show_default=True,
        help="Stop at a record that cannot be used, or leave it out and list it in OUTPUT.failed.csv.",
    )


def targets(help: str, required: bool = False) -> Decorator:
    """Add the columns of targets."""
    return click.option("-t", "--target", "targets", multiple=True, required=required, metavar="NAME", help=help)


table = output("Table to write: .csv, .tsv, .jsonl or .parquet; stdout if not given, or for `-`.")


def reading(command: Any) -> Any:
    """Add how crystals are read, and `common`; the command gets all of it as `reading`, keywords of the readers."""

    @functools.wraps(command)
    def called(
        *args: Any, id_column: str | None, structure_column: str | None, jobs: int | None, quiet: bool, **others: Any
    ) -> Any:
        how = {"id": id_column, "structure": structure_column, "n_jobs": jobs, "verbose": not quiet}
        return command(*args, reading=how, **others)

    return id_column(structure_column(jobs(common(called))))


def set_params(estimator: Any, given: tuple[str, ...]) -> Any:
    """Set parameters of an estimator, those of a file and of texts NAME=VALUE; or say which one it does not have."""
    params = click.get_current_context().meta.get(_PARAMS, {})
    if not isinstance(params, dict):
        raise click.BadParameter("the file's `param` is no table of names and values", param_hint="--config")
    known = estimator.get_params(deep=False)
    for name, value in {**params, **dict(map(_parse, given))}.items():
        if name not in known:
            raise click.BadParameter(
                f"{type(estimator).__name__} has no parameter {name!r}.{did_you_mean(name, known)}",
                param_hint="--param",
            )
        estimator.set_params(**{name: value})
    return estimator


def _parse(text: str) -> tuple[str, Any]:
    """Return a name and a value, which is JSON or else the text itself."""
    name, equals, value = text.partition("=")
    if not (equals and name.strip()):
        raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint="--param")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value
