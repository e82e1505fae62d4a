"""Users, applications and roles, straight on the database of DATA_DIR: the operator's tool, as `migrate` is."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from tailorbird import settings as settings_module
from tailorbird.domain.access import Grant, PrincipalKind, Role
from tailorbird.domain.errors import ServiceError
from tailorbird.service import acting
from tailorbird.service.access import Access

app = typer.Typer(no_args_is_help=True, help="Users, applications and the roles they hold (works on the database).")
users = typer.Typer(no_args_is_help=True, help="People who log in with a password.")
apps = typer.Typer(no_args_is_help=True, help="Applications (service principals) that log in with a secret.")
roles = typer.Typer(no_args_is_help=True, help="Who holds which role at which scope.")
app.add_typer(users, name="users")
app.add_typer(apps, name="apps")
app.add_typer(roles, name="roles")

T = TypeVar("T")
Rows = list[dict[str, str]]


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


DataDir = Annotated[str | None, typer.Option(help="Folder of the installation; default as for `up`.")]
Shape = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
Password = Annotated[
    str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for when not given.")
]
UserName = Annotated[str, typer.Argument(help="As anna@example.org.")]
AppId = Annotated[str, typer.Argument(help="The application's id (client id).")]


# --- users ------------------------------------------------------------------------------------------------------------


@users.command("list")
def list_users(data_dir: DataDir = None, output: Shape = Output.TABLE) -> None:
    """Lists users."""
    found = _with(data_dir, lambda access: access.users.users())
    _print([{"name": user.name, "object_id": user.object_id} for user in found], output, ("name", "object_id"))


@users.command("add")
def add_user(name: UserName, password: Password, data_dir: DataDir = None) -> None:
    """Adds a user and prints their object id; they may nothing until they hold a role."""
    typer.echo(_with(data_dir, lambda access: access.users.add_user(name, password)).object_id)


@users.command("password")
def set_password(name: UserName, password: Password, data_dir: DataDir = None) -> None:
    """Gives a user a new password."""
    _with(data_dir, lambda access: access.users.set_password(name, password))


@users.command("delete")
def delete_user(name: UserName, data_dir: DataDir = None) -> None:
    """Deletes a user with their roles and logins."""
    _with(data_dir, lambda access: access.users.delete_user(name))


# --- applications -----------------------------------------------------------------------------------------------------


@apps.command("list")
def list_apps(data_dir: DataDir = None, output: Shape = Output.TABLE) -> None:
    """Lists applications."""
    found = _with(data_dir, lambda access: access.users.applications())
    rows = [{"name": one.name, "app_id": one.app_id, "object_id": one.object_id} for one in found]
    _print(rows, output, ("name", "app_id", "object_id"))


@apps.command("add")
def add_app(name: Annotated[str, typer.Argument(help="What it is called in lists.")], data_dir: DataDir = None) -> None:
    """Adds an application and prints what it logs in with; the secret is told this once."""

    def add(access: Access) -> dict[str, str]:
        made, secret = access.users.add_application(name)
        return {"app_id": made.app_id, "object_id": made.object_id, "secret": secret, "tenant": access.tenant_id}

    typer.echo(json.dumps(_with(data_dir, add), indent=2))


@apps.command("secret")
def reset_secret(app_id: AppId, data_dir: DataDir = None) -> None:
    """Prints a new secret for an application; the old one stops working."""
    typer.echo(_with(data_dir, lambda access: access.users.reset_secret(app_id)))


@apps.command("delete")
def delete_app(app_id: AppId, data_dir: DataDir = None) -> None:
    """Deletes an application with its roles."""
    _with(data_dir, lambda access: access.users.delete_application(app_id))


# --- roles ------------------------------------------------------------------------------------------------------------


@roles.command("names")
def role_names() -> None:
    """Prints the roles there are."""
    for role in Role:
        typer.echo(role.value)


@roles.command("list")
def list_roles(
    holder: Annotated[str | None, typer.Option(help="Only this user's, application's or object id's.")] = None,
    scope: Annotated[str, typer.Option(help="At, above and below this scope.")] = "/",
    data_dir: DataDir = None,
    output: Shape = Output.TABLE,
) -> None:
    """Lists role assignments."""

    def find(access: Access) -> list[Grant]:
        of = None if holder is None else _holder(access, holder, outside=True)[0]
        return [grant for grant in access.roles.list(scope) if of in (None, grant.object_id)]

    found = _with(data_dir, find)
    columns = ("id", "holder", "kind", "role", "scope")
    values = ((g.id, g.object_id, g.kind.value, g.role.value, g.scope) for g in found)
    _print([dict(zip(columns, row, strict=True)) for row in values], output, columns)


@roles.command("add")
def add_role(
    holder: Annotated[str, typer.Argument(help="A user's name, an application's id or an object id.")],
    role: Annotated[str, typer.Argument(help="A role's name or the id of its definition.")],
    scope: Annotated[str, typer.Option(help="An ARM id; default: the subscription.")] = "",
    outside: Annotated[bool, typer.Option(help="The holder is known to an outside issuer only.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Gives somebody a role and prints the assignment's id."""

    def add(access: Access) -> str:
        object_id, kind = _holder(access, holder, outside=outside)
        chosen = scope or f"/subscriptions/{access.resources.groups()[0].subscription_id}"
        access.check_scope(chosen)
        return access.roles.assign(object_id, role, chosen, by="tailorbird access", kind=kind)[0].id

    typer.echo(_with(data_dir, add))


@roles.command("remove")
def remove_role(
    assignment: Annotated[str, typer.Argument(help="The assignment's id, from `list`.")], data_dir: DataDir = None
) -> None:
    """Takes a role away; tokens already out lose it at once."""

    def remove(access: Access) -> bool:
        known = [grant for grant in access.roles.list() if grant.id == assignment.lower()]
        return bool(known) and access.roles.remove(known[0].scope, known[0].id) is not None

    if not _with(data_dir, remove):
        _fail(f"there is no role assignment {assignment}; `tailorbird access roles list` shows them")


# --- inside -----------------------------------------------------------------------------------------------------------


def _holder(access: Access, named: str, *, outside: bool) -> tuple[str, PrincipalKind]:
    for user in access.users.users():
        if named.lower() in (user.name.lower(), user.object_id):
            return user.object_id, PrincipalKind.USER
    for one in access.users.applications():
        if named.lower() in (one.app_id, one.object_id):
            return one.object_id, PrincipalKind.SERVICE_PRINCIPAL
    if not outside:
        _fail(f"{named} is no user, application or object id; for somebody an outside issuer knows add --outside")
    return named, PrincipalKind.USER


def _with(data_dir: str | None, use: Callable[[Access], T]) -> T:
    from tailorbird import wiring

    operator = acting.Acting(principal_name=f"{_operator()} (tailorbird access)")
    with _faults(), acting.begun(operator):
        settings = settings_module.load({"data_dir": data_dir})
        wiring.migrate_database(settings)
        access = wiring.build_access(settings)
        access.first_run()
        return use(access)


def _operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return f"user {os.getuid()}"


@contextmanager
def _faults() -> Generator[None]:
    try:
        yield
    except ServiceError as error:
        _fail(error.message)
    except ValueError as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    typer.echo(f"tailorbird access: {text}", err=True)
    raise typer.Exit(1)


def _print(rows: Rows, output: Output, columns: tuple[str, ...]) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table()
    for name in columns:
        # An id cut short names nothing.
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    Console().print(table)
