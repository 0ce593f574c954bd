"""Parts of documents that benchmarks write."""

from __future__ import annotations

from _common import ROOT

__all__ = ["replace_between", "write_section"]


def replace_between(text: str, marker: str, content: str) -> str:
    """Return a document with what stands between two markers replaced."""
    begin, end = f"<!-- {marker} -->", f"<!-- end of {marker} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the document has no {begin} … {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def write_section(page: str, script: str, content: str) -> None:
    """Replace what docs/`page` has of a script, between the markers that name it."""
    path = ROOT / "docs" / page
    path.write_text(replace_between(path.read_text(), script, content))
