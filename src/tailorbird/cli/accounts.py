"""`tailorbird accounts`: what the operator decides for single accounts, straight on the database of DATA_DIR."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from tailorbird import settings as settings_module
from tailorbird.service.filtering import OFF, ON, SETTING

app = typer.Typer(no_args_is_help=True, help="What the operator decides for single accounts (works on the database).")

_UNSET = "default"


@app.callback()
def accounts() -> None:
    """A group even with one command in it."""


@app.command("content-filter")
def content_filter(
    wanted: Annotated[
        str | None, typer.Argument(metavar="[on|off|default]", help="Without it, prints how it is.")
    ] = None,
    account: Annotated[str, typer.Option(help="The account's name; the only one when there is one.")] = "",
    data_dir: Annotated[str | None, typer.Option(help="Folder of the installation; default as for `up`.")] = None,
) -> None:
    """Filters an account's prompts and answers; `default` leaves it to deployments that name a raiPolicyName."""
    from tailorbird import wiring

    if wanted not in (None, ON, OFF, _UNSET):
        _fail(f"{wanted!r} is none of on, off and default")
    try:
        settings = settings_module.load({"data_dir": data_dir})
    except ValueError as error:
        _fail(str(error))
    wiring.migrate_database(settings)
    store = wiring.build_store(settings)
    with store.begin() as tx:
        found = [one for one in tx.accounts.list() if account.lower() in ("", one.name.lower())]
        if len(found) != 1:
            names = ", ".join(one.name for one in found)
            _fail(f"there is no account {account!r}" if account else f"name one with --account: {names or 'none yet'}")
        if wanted is not None:
            tx.account_settings.put(found[0].id, SETTING, None if wanted == _UNSET else wanted)
        typer.echo(tx.account_settings.get(found[0].id, SETTING) or _UNSET)


def _fail(text: str) -> NoReturn:
    typer.echo(f"tailorbird accounts: {text}", err=True)
    raise typer.Exit(1)
