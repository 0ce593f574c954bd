"""The command line, thin over the rest of the package. Nothing heavy is loaded before a command runs."""

from __future__ import annotations

from crystalssl.cli._main import cli, main

__all__ = ["cli", "main"]
