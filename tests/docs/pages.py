"""The pages as tests read them: tables by their mark, code blocks by their file name, links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "events" / "README.md", *(ROOT / "docs").rglob("*.md")]
)

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def table(page: str, name: str) -> list[list[str]]:
    """The rows of the table after `<!-- <name> -->`, without its head."""
    _, mark, rest = read(page).partition(f"<!-- {name} -->\n")
    assert mark, f"{page} has no table {name}"
    rows = []
    for line in rest.splitlines():
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


def words(cell: str) -> list[str]:
    """What stands in code marks."""
    return re.findall(r"`([^`]+)`", cell)


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language, without the indent of the list that they stand in."""
    found = []
    for indent, named, code in _FENCE.findall(read(page)):
        if named == language:
            found.append("\n".join(line.removeprefix(indent) for line in code.splitlines()) + "\n")
    return found


def program(page: str, file: str) -> str:
    """The code block that the page says to save as a file."""
    _, mark, rest = read(page).partition(f"<!-- file: {file} -->\n")
    assert mark, f"{page} has no file {file}"
    found = _FENCE.search(rest)
    assert found is not None
    indent, _, code = found.groups()
    return "\n".join(line.removeprefix(indent) for line in code.splitlines()) + "\n"


def section(page: str, heading: str) -> str:
    """What stands under a heading of the second rank, up to the next one."""
    _, mark, rest = read(page).partition(f"\n## {heading}\n")
    assert mark, f"{page} has no section {heading}"
    return rest.partition("\n## ")[0]


def links(page: Path) -> list[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return _LINK.findall(text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
