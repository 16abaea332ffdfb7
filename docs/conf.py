"""The site: the repository's pages as they stand, and a reference from the doc-strings.

``sphinx-build -W --keep-going -c docs . build/site`` makes it; `docs/README.md` says more. The source folder is the
repository, so that a relative link leads to the same place here as where the repository is browsed.
"""

from __future__ import annotations

import importlib
import inspect
import re

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock
from sphinx.util.docutils import SphinxDirective

import legato

project = "Legato"
author = copyright = "The Legato developers"
release = version = legato.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "examples/README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [".*", "build", "dist", "cpp", "python", "tests", "benchmarks"]
myst_heading_anchors = 4

# As if they were missing even where they are installed: the site is the same everywhere.
autodoc_mock_imports = ["cupy", "diffusers", "torch"]
autodoc_typehints = "none"  # types and shapes are in numpydoc's Parameters
autosummary_generate = False
default_role = "py:obj"  # `name` in a doc-string is code, and a link where it is public
numpydoc_show_class_members = False  # autodoc lists them

# A name that begins with `legato.` must lead somewhere; other words in backticks need not be names.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!legato\.).*")]
# Doc-strings that speak of what is not public.
nitpick_ignore = [
    ("py:obj", "legato._printing.csv_cell"),
    ("py:obj", "legato.video.motion.subjects.read_salient"),
]

html_theme = "furo"
html_title = f"Legato {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False


class Exports(SphinxDirective):
    """Everything in a module's ``__all__``, a table first: ``.. exports:: legato.camera``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the directives of autosummary and autodoc, and have them read."""
        with mock(autodoc_mock_imports):
            module = importlib.import_module(self.arguments[0])
            members = {name: getattr(module, name) for name in module.__all__}  # a lazy module imports here
        classes = [name for name, member in members.items() if isinstance(member, type)]
        functions = [name for name, member in members.items() if inspect.isroutine(member)]
        lines = [f".. automodule:: {module.__name__}", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {name}" for name in functions + classes]
        for name, member in members.items():
            if name in functions:
                lines += ["", f".. autofunction:: {name}"]
            elif name in classes:
                lines += ["", f".. autoclass:: {name}", "   :members:"]
            elif not inspect.ismodule(member):
                text = str(member)
                lines += ["", f".. py:data:: {name}", "", f"   ``{text}``" if len(text) < 200 else ""]
        return self.parse_text_to_nodes(StringList(lines, source=module.__name__))


def finish(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:  # noqa: ARG001
    """Escape bars, which are absolute values, and make a module's headings rubrics, since the page has its own."""
    quoted = False
    for i, line in enumerate(lines):
        quoted = bool(line.strip()) and (quoted or line.lstrip().startswith(">>>"))
        if not quoted:
            lines[i] = re.sub(r"``.*?``|\|", lambda found: r"\|" if found[0] == "|" else found[0], line)
        if what == "module" and i and re.fullmatch("-{3,}", line):
            lines[i - 1], lines[i] = f".. rubric:: {lines[i - 1]}", ""


def setup(app: Sphinx) -> None:
    """Add the directive of the reference pages and mend what numpydoc leaves."""
    app.add_directive("exports", Exports)
    app.connect("autodoc-process-docstring", finish, priority=600)
