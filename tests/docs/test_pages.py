"""The documentation says what the code says: trees, settings page, links, and the size rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import generated_pages
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tailorbird"
# Alembic's steps are data of infra, not modules: nobody imports them.
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = sorted(
    path
    for folder in ("src", "tests", "examples", "tools", "recipes", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)

# docs/architecture.md, house rule 2: the training loop and route tables may be longer.
LONG_FUNCTIONS_ALLOWED = ("training/run.py", "api/")
LONGEST_FUNCTION, LONGEST_LOOP, LONGEST_MODULE = 60, 100, 500


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def heading_anchor(heading: str) -> str:
    """As GitHub makes them: lower case, punctuation dropped, spaces to hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links_of(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", sorted(generated_pages.pages()), ids=name_of)
def test_a_generated_page_is_up_to_date(page: Path) -> None:
    found = page.read_text(encoding="utf-8") if page.exists() else ""
    assert found == generated_pages.pages()[page], "run `make docs`"


def test_every_module_has_its_line_in_the_tree() -> None:
    lines = generated_pages.module_tree().splitlines()[2:-1]  # without the fence and the folder itself
    modules = [path for path in MODULES if path.parent != PACKAGE or path.stem != "__init__"]
    names = sorted(path.parent.name + "/" if path.stem == "__init__" else path.name for path in modules)
    assert sorted(line.split()[0] for line in lines) == names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_begins_with_its_line(path: Path) -> None:
    line = generated_pages.first_line(path)
    assert line
    assert len(line) <= 120


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    dead: list[str] = []
    for link in links_of(page):
        if re.match(r"[a-z]+://|mailto:", link):
            continue
        target, _, anchor = link.partition("#")
        place = (page.parent / target).resolve() if target else page
        headings = (
            re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), flags=re.MULTILINE)
            if place.suffix == ".md" and place.exists()
            else []
        )
        if not place.exists() or (anchor and anchor not in map(heading_anchor, headings)):
            dead.append(link)
    assert dead == []


def test_every_deviation_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "deviations.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| topic", "| ---"))]
    assert rows
    missing: list[str] = []
    for row in rows:
        path, name = re.findall(r"`(tests/[\w/]+\.py)::(\w+)` \|$", row)[0]
        file = ROOT / path
        if not file.exists() or f"def {name}(" not in file.read_text(encoding="utf-8"):
            missing.append(f"{path}::{name}")
    assert missing == []


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_modules_and_functions_keep_their_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_MODULE
    allowed = any(part in name_of(path) for part in LONG_FUNCTIONS_ALLOWED)
    limit = LONGEST_LOOP if allowed else LONGEST_FUNCTION
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f"{n.name}, line {n.lineno}": (n.end_lineno or n.lineno) - n.lineno + 1 for n in functions}
    assert {name: length for name, length in lengths.items() if length > limit} == {}


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_nothing_is_left_to_be_done_later(path: Path) -> None:
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")
    text = path.read_text(encoding="utf-8")
    assert [word for word in words if re.search(rf"\b{word}\b", text)] == []


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=name_of)
def test_no_path_of_the_machine_it_was_written_on(path: Path) -> None:
    checkout = re.escape(str(ROOT)) + r"\b"
    assert re.search(checkout, path.read_text(encoding="utf-8")) is None


def test_store_room_names_are_not_used() -> None:
    forbidden = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}
    assert [name_of(path) for path in MODULES if path.stem in forbidden or path.parent.name in forbidden] == []
