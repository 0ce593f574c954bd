"""Settings of the site: `make docs` builds it.

With CRYSTALSSL_DOCS_QUICK=1 the examples of the gallery are shown but not run, and no other site is asked for its
names.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

from sphinx_gallery.sorting import ExplicitOrder

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import _api  # noqa: E402
import latex2mathml.converter  # noqa: E402
from docutils import nodes  # noqa: E402

import crystalssl  # noqa: E402

quick = os.environ.get("CRYSTALSSL_DOCS_QUICK") == "1"

project = "crystalssl"
author = "The crystalssl developers"
copyright = "The crystalssl developers"
release = version = crystalssl.__version__
repository = "https://github.com/crystalssl/crystalssl"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
highlight_language = "none"  # of blocks that name none: commands, lists of files
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
default_role = "py:obj"  # single backticks in docstrings are links where they name something

html_theme = "pydata_sphinx_theme"
html_title = "crystalssl"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
# Pages that have no others below them: nothing to navigate.
html_sidebars = {name: [] for name in ("get-started", "results", "trials", "performance", "inside", "faq")}
toc_object_entries_show_parents = "hide"
html_theme_options = {
    "github_url": repository,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4

autosummary_imported_members = True
autodoc_typehints = "none"  # numpydoc has the types
numpydoc_show_class_members = False  # the templates list them

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sites = {
    "python": "https://docs.python.org/3",
    "numpy": "https://numpy.org/doc/stable",
    "sklearn": "https://scikit-learn.org/stable",
    "skorch": "https://skorch.readthedocs.io/en/stable",
    "torch": "https://docs.pytorch.org/docs/stable",
    "pymatgen": "https://pymatgen.org",
}
intersphinx_mapping = {} if quick else {name: (address, None) for name, address in sites.items()}
intersphinx_timeout = 5

# The tutorials run, each in less than a minute of one core. The others have options, and take longer or want files that
# are not part of the repository.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/(quickstart|pretrain_your_own|screening)\.py",
    "plot_gallery": not quick,
    "first_notebook_cell": "# A notebook has no command line.\nimport sys\n\nsys.argv = ['notebook']",
    "default_thumb_file": str(DOCS / "figures" / "label_efficiency.png"),
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "within_subsection_order": ExplicitOrder(
        [
            "quickstart.py",
            "pretrain_your_own.py",
            "screening.py",
            "active_learning.py",
            "choose_pretraining.py",
            "matbench_cross_validation.py",
        ]
    ),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}

linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_anchors = False
linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1)", r"https://doi\.org/"]  # publishers turn robots away


def link_to_repository(app, docname, source):
    """Files outside of docs/, which Markdown pages name by their place in the repository, are read on its site."""

    def address(link):
        target, anchor = re.fullmatch(r"([^#]*)(.*)", link[1]).groups()
        path = (DOCS / docname).parent.joinpath(target).resolve()
        if path.is_relative_to(DOCS):
            return link[0]
        kind = "tree" if path.is_dir() else "blob"
        return f"]({repository}/{kind}/main/{path.relative_to(DOCS.parent)}{anchor})"

    source[0] = re.sub(r"\]\((\.\./[^)\s]+)\)", address, source[0])


def skip_foreign(app, what, name, member, skip, options):
    """Methods that a class inherits from torch, skorch or scikit-learn are documented there."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
    if callable(function) and not (getattr(function, "__module__", None) or "").startswith("crystalssl"):
        return True
    return None


def mathml(self, node):
    """Browsers draw MathML themselves; MathJax would be fetched from elsewhere."""
    display = "inline" if node.tagname == "math" else "block"
    self.body.append(latex2mathml.converter.convert(node.astext(), display=display))
    raise nodes.SkipNode


def as_news(record):
    """Where there is no network, links to other projects are left out; that is no reason to fail."""
    record.levelno, record.levelname = logging.INFO, "INFO"
    return True


def setup(app):
    _api.write_pages(DOCS / "api")
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("source-read", link_to_repository)
    app.connect("autodoc-skip-member", skip_foreign)
    logging.getLogger("sphinx.sphinx.ext.intersphinx").addFilter(as_news)
