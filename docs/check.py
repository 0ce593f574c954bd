"""Check the Markdown files: every relative link leads to a file, every Python block is valid Python."""

from __future__ import annotations

import doctest
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"  # which the sdist leaves out
FENCE = re.compile(r"^([ ]*)```(\w*)[^\n]*\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)")
ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:|#")  # an address with a scheme, or an anchor on the same page


def check(path: Path) -> list[str]:
    """Return one line per problem in one Markdown file."""
    text, problems = path.read_text(encoding="utf-8"), []

    def report(offset: int, problem: str) -> None:
        problems.append(f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, offset) + 1}: {problem}")

    for block in FENCE.finditer(text):
        code = textwrap.dedent(block[3])
        if block[2] in ("python", "py"):
            try:
                if ">>>" in code:
                    code = "".join(example.source for example in doctest.DocTestParser().get_examples(code))
                compile(code, str(path), "exec")
            except (SyntaxError, ValueError) as error:
                report(block.start(), f"Python block does not compile: {error}")
    # Code is not prose: what looks like a link in it is none. Blanks keep the offsets.
    prose = FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    for link in LINK.finditer(prose):
        target = link[1].split("#")[0]
        file = (path.parent / target).resolve()
        left_out = not RESULTS.exists() and file.is_relative_to(RESULTS)
        if not ELSEWHERE.match(link[1]) and not (file.exists() or left_out):
            report(link.start(), f"no such file: {target}")
    return problems


def main() -> int:
    """Check all files, print the problems, and return the exit status."""
    folders = ("docs", "examples", "benchmarks", "crystalssl")
    paths = sorted([*ROOT.glob("*.md"), *(path for folder in folders for path in (ROOT / folder).rglob("*.md"))])
    problems = [problem for path in paths for problem in check(path)]
    print("\n".join([*problems, f"{len(paths)} Markdown files checked, {len(problems)} problems"]))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
