"""The contracts in .importlinter hold on the real tree, and each breaks, alone, on a violation planted in a copy."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tailorbird"
CONTRACTS = ROOT / ".importlinter"

LAYERS = "Imports only go down; names on one line do not know each other"
TORCH_SIDE = "The torch side knows neither domain nor service"
NO_TORCH = "The control plane never reaches torch, not even through others"
PURE_CORE = "Rules and use cases know no framework, no database and no HTTP"
SQL = "SQL only in infra"
WEB = "The web framework only in api, studio and serving.server"
INFRA_PORTS = "infra sees only service.ports of the service"
STUDIO = "studio sees nothing but its HTTP client"
CYCLES = "No cycles between modules"


@dataclass(frozen=True)
class Violation:
    title: str
    breaks: str
    files: Mapping[str, str]  # path under src/tailorbird -> content; a new file, or appended to an existing one


VIOLATIONS = (
    Violation("a lower layer imports a higher one", LAYERS, {"protocol/planted.py": "import tailorbird.settings\n"}),
    Violation("siblings know each other", LAYERS, {"domain/planted.py": "import tailorbird.dataset\n"}),
    Violation("api reaches into infra", LAYERS, {"api/planted.py": "import tailorbird.infra\n"}),
    Violation("the worker reaches into api", LAYERS, {"worker.py": "\nimport tailorbird.api\n"}),
    Violation("a package outside the layers appears", LAYERS, {"utils/__init__.py": "", "utils/planted.py": ""}),
    Violation(
        "a type-only import goes up",
        LAYERS,
        {
            "domain/planted.py": "import typing as t\nif t.TYPE_CHECKING:\n    import tailorbird.protocol\n",
        },
    ),
    Violation("the trainer knows domain", TORCH_SIDE, {"training/planted.py": "import tailorbird.domain\n"}),
    Violation(
        "the engine knows a service", TORCH_SIDE, {"serving/planted.py": "from tailorbird.service import ports\n"}
    ),
    Violation("lm knows domain", TORCH_SIDE, {"lm/planted.py": "def late():\n    import tailorbird.domain\n"}),
    Violation("a service imports torch", NO_TORCH, {"service/planted.py": "import torch\n"}),
    Violation(
        "the command imports the trainer late", NO_TORCH, {"cli/planted.py": "def f():\n    import tailorbird.lm\n"}
    ),
    Violation(
        "the server reaches transformers through another module",
        NO_TORCH,
        {
            "dataset/planted.py": "import transformers\n",
            "api/planted.py": "import tailorbird.dataset.planted\n",
        },
    ),
    Violation("a rule does HTTP", PURE_CORE, {"domain/planted.py": "import httpx\n"}),
    Violation(
        "a service validates with pydantic", PURE_CORE, {"service/planted.py": "from pydantic import BaseModel\n"}
    ),
    Violation("the worker speaks SQL", SQL, {"worker.py": "\nimport sqlalchemy\n"}),
    Violation("the api speaks SQL", SQL, {"api/planted.py": "from sqlalchemy import select\n"}),
    Violation("a route starts a server", WEB, {"api/planted.py": "import uvicorn\n"}),
    Violation("the worker uses the web framework", WEB, {"worker.py": "\nimport starlette\n"}),
    Violation("the scheduler uses the web framework", WEB, {"serving/planted.py": "import fastapi\n"}),
    Violation(
        "infra calls a use case",
        INFRA_PORTS,
        {"service/planted.py": "", "infra/planted.py": "from tailorbird.service import planted\n"},
    ),
    Violation(
        "studio imports a protocol",
        STUDIO,
        {"studio/__init__.py": "", "studio/planted.py": "import tailorbird.protocol\n"},
    ),
    Violation(
        "two modules import each other",
        CYCLES,
        {
            "domain/planted_a.py": "import tailorbird.domain.planted_b\n",
            "domain/planted_b.py": "import tailorbird.domain.planted_a\n",
        },
    ),
)


def lint(source: Path) -> tuple[dict[str, bool], str]:
    """Contract name -> kept, and the whole output."""
    environment = {**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200", "NO_COLOR": "1"}
    command = "from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo", "--config", str(CONTRACTS)],
        env=environment,
        cwd=source,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.findall(r"^(.+?) (KEPT|BROKEN)(?: .*)?$", done.stdout, flags=re.MULTILINE)
    return {name: verdict == "KEPT" for name, verdict in found}, done.stdout + done.stderr


def declared() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(CONTRACTS)
    return parser


def names_of(contract: str, option: str) -> set[str]:
    return set(declared()[f"importlinter:contract:{contract}"][option].split())


def test_every_contract_holds_on_the_real_tree() -> None:
    verdicts, output = lint(ROOT / "src")
    names = {section["name"] for key, section in declared().items() if key.startswith("importlinter:contract:")}
    assert verdicts == dict.fromkeys(names, True), output


def test_every_contract_has_a_planted_violation() -> None:
    names = {section["name"] for key, section in declared().items() if key.startswith("importlinter:contract:")}
    assert {violation.breaks for violation in VIOLATIONS} == names


@pytest.mark.parametrize("violation", VIOLATIONS, ids=lambda v: v.title.replace(" ", "_"))
def test_exactly_this_contract_breaks_when(violation: Violation, tmp_path: Path) -> None:
    copy = tmp_path / "src" / "tailorbird"
    shutil.copytree(PACKAGE, copy, ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")])
    for name, text in violation.files.items():
        target = copy / name
        target.parent.mkdir(exist_ok=True)
        target.write_text((target.read_text(encoding="utf-8") if target.exists() else "") + text, encoding="utf-8")
    verdicts, output = lint(copy.parent)
    assert [name for name, kept in verdicts.items() if not kept] == [violation.breaks], output


def test_a_package_is_either_on_the_torch_side_or_kept_away_from_torch() -> None:
    torch_side = names_of("torch-side", "source_modules")
    kept_away = {name.removesuffix(".**") for name in names_of("no-torch", "source_modules")}
    packages = {
        f"tailorbird.{path.stem}"
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    assert packages <= torch_side | kept_away
    assert not torch_side & kept_away


@pytest.mark.parametrize("package", ["domain", "protocol"])
def test_the_words_and_the_messages_need_only_the_standard_library(package: str) -> None:
    foreign = []
    for path in sorted((PACKAGE / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            roots: list[str] = []
            if isinstance(node, ast.Import):
                roots = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                roots = [(node.module or "").split(".")[0]]
            foreign += [
                f"{path.name}: {root}" for root in roots if root not in {*sys.stdlib_module_names, "tailorbird"}
            ]
    assert foreign == []
