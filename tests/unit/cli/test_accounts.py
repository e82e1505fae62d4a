"""`tailorbird accounts content-filter` writes what the server reads."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from tailorbird import wiring
from tailorbird.cli.main import app
from tailorbird.settings import Settings


def run(folder: Path, *arguments: str):
    return CliRunner().invoke(app, ["accounts", "content-filter", *arguments, "--data-dir", str(folder)])


def test_the_filter_is_turned_on_off_and_back_to_the_default(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path))
    wiring.migrate_database(settings)
    wiring.build_access(settings).first_run()
    for wanted in ("on", "off", "default"):
        assert run(tmp_path, wanted).output == f"{wanted}\n"
        assert run(tmp_path).output == f"{wanted}\n"


def test_what_cannot_be_set_is_refused_with_what_can(tmp_path: Path) -> None:
    assert "none of on, off and default" in run(tmp_path, "maybe").output
    assert "--account" in run(tmp_path, "on").output
    assert "no account 'nobody'" in run(tmp_path, "on", "--account", "nobody").output
