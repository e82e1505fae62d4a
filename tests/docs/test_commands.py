"""Commands that the documentation tells people to type exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from tailorbird.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TYPED = "\n".join(
    block
    for page in PAGES
    for block in re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
)


def test_every_make_target_in_the_documentation_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    typed = re.findall(r"^make ([a-z-]+)", TYPED, flags=re.MULTILINE)
    assert typed
    assert set(typed) <= set(targets)


def test_every_tailorbird_command_in_the_documentation_exists() -> None:
    commands = typer.main.get_command(app)
    typed = re.findall(r"^(?:\.venv/bin/)?tailorbird ([a-z]+)(.*)$", TYPED, flags=re.MULTILINE)
    assert typed
    for name, rest in typed:
        command = commands.commands[name]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest.split() if word.startswith("--")} <= known


@pytest.mark.parametrize("extra", ["dependencies", "dev"])
def test_every_requirement_has_its_pin(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] if extra == "dependencies" else project["optional-dependencies"][extra]
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    names = {re.split(r"[\[<>=]", line)[0] for line in wanted}
    plain = {name.lower().replace("_", "-").replace(".", "-") for name in pinned}
    assert {name for name in names if name.lower() not in plain} == set()
