"""`tailorbird access` on the database of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tailorbird.cli.access import app
from tailorbird.domain.access import Role


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    return lambda *words, **more: CliRunner().invoke(app, [*words, "--data-dir", str(tmp_path)], **more)


def test_a_user_is_added_given_a_role_and_deleted(run: Callable[..., Result]) -> None:
    added = run("users", "add", "anna@example.org", input="long enough\nlong enough\n")
    object_id = added.output.split()[-1]
    assert json.loads(run("users", "list", "-o", "json").output) == [
        {"name": "anna@example.org", "object_id": object_id}
    ]
    given = run("roles", "add", "Anna@example.org", "Foundry User").output.strip()
    (row,) = json.loads(run("roles", "list", "--holder", "anna@example.org", "-o", "json").output)
    assert (row["id"], row["holder"], row["kind"], row["role"]) == (given, object_id, "User", Role.AI_USER)
    assert row["scope"].startswith("/subscriptions/")
    assert run("roles", "remove", given).exit_code == 0
    assert run("roles", "remove", given).exit_code == 1
    assert run("users", "password", "anna@example.org", "--password", "another one").exit_code == 0
    assert run("users", "delete", "anna@example.org").exit_code == 0
    assert run("users", "list", "-o", "json").output.strip() == "[]"


def test_an_application_gets_a_secret_told_once(run: Callable[..., Result]) -> None:
    made = json.loads(run("apps", "add", "robot").output)
    assert set(made) == {"app_id", "object_id", "secret", "tenant"}
    newer = run("apps", "secret", made["app_id"]).output.strip()
    assert len(newer) == 40
    assert newer != made["secret"]
    table = run("apps", "list").output
    assert "robot" in table
    assert made["secret"] not in table
    assert run("apps", "delete", made["app_id"]).exit_code == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("users", "add", "x", "--password", "short"), "at least 8"),
        (("users", "delete", "nobody"), "no user 'nobody'"),
        (("apps", "secret", "nobody"), "no application"),
        (("roles", "add", "nobody", "Reader"), "--outside"),
        (("roles", "add", "oid", "Chief", "--outside"), "does not exist"),
        (("roles", "add", "oid", "Reader", "--outside", "--scope", "/subscriptions/nowhere"), "could not be found"),
    ],
)
def test_a_mistake_is_told_and_fails(run: Callable[..., Result], words: tuple[str, ...], text: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert text in result.output


def test_somebody_an_outside_issuer_knows_gets_a_role(run: Callable[..., Result]) -> None:
    assert run("roles", "add", "outsider", "Reader", "--outside").exit_code == 0
    (row,) = json.loads(run("roles", "list", "--holder", "outsider", "-o", "json").output)
    assert (row["holder"], row["role"]) == ("outsider", "Reader")


def test_the_names_of_roles_are_printed() -> None:
    assert CliRunner().invoke(app, ["roles", "names"]).output.splitlines() == [role.value for role in Role]
