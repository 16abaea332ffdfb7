"""What the site's build does not see: links where the repository is browsed, the list of pages, the doors' commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from legato import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    assert not [link for link in links if ":" not in link and not (page.parent / link).exists()]


def test_the_list_of_pages_is_whole() -> None:
    listed = (DOCS / "README.md").read_text()
    own = {"README.md", "index.md"}
    assert not [page.name for page in DOCS.glob("*.md") if page.name not in own and f"]({page.name})" not in listed]


def test_every_module_of_the_reference_exists() -> None:
    for page in (DOCS / "reference").glob("*.md"):
        named = set(re.findall(r"legato[.\w]*", page.read_text()))
        assert named == {"legato" if page.stem == "legato" else f"legato.{page.stem}"}


def test_the_doors_commands_exist() -> None:
    commands = re.findall(r"^legato (.*)$", (DOCS / "index.md").read_text(), flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        cli._parser().parse_args(shlex.split(command))


def test_the_glossary_is_sorted() -> None:
    words = re.findall(r"^\| ([^|]+) \|", (DOCS / "glossary.md").read_text(), flags=re.MULTILINE)[2:]
    assert words == sorted(words, key=str.casefold)
