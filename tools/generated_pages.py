"""Writes the parts of the documentation that are made from the code: the settings page and the module trees.

    python tools/generated_pages.py

tests/docs compares what this would write with what is there.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from tailorbird.settings import as_markdown

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tailorbird"

# From the outside in: the order of the tree on the page, and roughly the order in which to read the code.
PACKAGES = ("domain", "dataset", "protocol", "service", "infra", "api", "lm", "training", "serving", "studio", "cli")
MODULES = ("settings", "wiring", "worker")


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without the full stop that a package's line ends with."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].removesuffix(".")


def module_tree() -> str:
    """Every module of the package with its line, one package after the other."""
    lines = [_line(f"{name}.py", PACKAGE / f"{name}.py", 0) for name in MODULES]
    for name in PACKAGES:
        if (PACKAGE / name / "__init__.py").exists():
            lines += _folder(PACKAGE / name, 0)
    return _fenced(["src/tailorbird/", *lines])


def package_tree() -> str:
    """The packages and the three modules beside them, one line each."""
    lines = [_line(f"{name}.py", PACKAGE / f"{name}.py", 0) for name in MODULES]
    for name in PACKAGES:
        start = PACKAGE / name / "__init__.py"
        if start.exists():
            lines.append(_line(f"{name}/", start, 0))
    return _fenced(["src/tailorbird/", *lines])


def _folder(folder: Path, depth: int) -> list[str]:
    lines = [_line(f"{folder.name}/", folder / "__init__.py", depth)]
    lines += [_line(path.name, path, depth + 1) for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        lines += _folder(inner, depth + 1)
    return lines


def _line(name: str, path: Path, depth: int) -> str:
    return f"{'  ' * depth + name:<24} {first_line(path)}"


def _fenced(lines: list[str]) -> str:
    return "```text\n" + "\n".join(lines) + "\n```\n"


def with_block(text: str, block: str) -> str:
    """`text` with everything between the two tree markers replaced. Raises ValueError when a marker is missing."""
    start, end = "<!-- tree: made by `make docs` -->\n", "<!-- end of tree -->"
    before, found_start, rest = text.partition(start)
    _, found_end, after = rest.partition(end)
    if not found_start or not found_end:
        raise ValueError("the markers of the tree are missing")
    return before + start + block + end + after


def pages() -> dict[Path, str]:
    """Path to the whole text that belongs there."""
    trees: dict[Path, Callable[[], str]] = {
        ROOT / "README.md": package_tree,
        ROOT / "docs" / "architecture.md": module_tree,
    }
    made = {path: with_block(path.read_text(encoding="utf-8"), tree()) for path, tree in trees.items()}
    made[ROOT / "docs" / "settings.md"] = as_markdown()
    return made


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
