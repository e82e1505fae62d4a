"""Keys, endpoint, who holds which role, and what the person who is signed in may do."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from nicegui import ui

from tailorbird.studio import visit as rights
from tailorbird.studio.controls import attempt, button, card, confirm, copy_button, empty, heading, problem, title
from tailorbird.studio.pages.grants import Holder, RoleKind, holders_of, may_words, rows_of
from tailorbird.studio.visit import Visit

_ASSIGNMENTS = "/providers/Microsoft.Authorization/roleAssignments"
_DEFINITIONS = "/providers/Microsoft.Authorization/roleDefinitions"
_MASK = "•" * 24


async def page(visit: Visit) -> None:
    title(visit, visit.t("access.title"), visit.t("access.lead"))
    _endpoint(visit)
    _keys(visit)
    _rights(visit)
    with card(visit.t("access.roles")), ui.element("div") as body:
        await _roles(visit, body)


def _endpoint(visit: Visit) -> None:
    account = visit.account
    assert account is not None
    with card(visit.t("access.account")), ui.element("dl").classes("facts"):
        for name, value in (
            ("name", account.name),
            ("resource_group", account.resource_group),
            ("subscription", account.subscription),
            ("location", account.location),
            ("resource_id", account.id),
        ):
            with ui.element("dt"):
                ui.label(visit.t(f"access.{name}"))
            with ui.element("dd"):
                ui.label(value).classes("mono")


def _keys(visit: Visit) -> None:
    t = visit.t
    with card(t("access.keys")):
        ui.label(t("access.keys_lead")).classes("quiet")
        reason = visit.refusal(rights.LIST_KEYS)
        if reason is not None:
            ui.label(reason).classes("reason")
            return
        # Fetched only when somebody asks to see one: each look stands in the audit trail.
        for place in (1, 2):
            _key(visit, place)


def _key(visit: Visit, place: int) -> None:
    t, name = visit.t, f"KEY {place}"
    with ui.element("div").classes("spread key"):
        ui.label(name).classes("strong")
        shown = ui.label(_MASK).classes("mono")
        with ui.element("div").classes("row"):
            copy_place = ui.element("span")

            async def reveal() -> None:
                if shown.text != _MASK:
                    shown.set_text(_MASK)
                    copy_place.clear()
                    eye.props(f'icon=visibility aria-label="{t("access.show", key=name)}"')
                    return
                keys = await attempt(visit.api.arm("POST", "/listKeys"))
                if keys is not None:
                    show(str(keys[f"key{place}"]))

            def show(key: str) -> None:
                shown.set_text(key)
                eye.props(f'icon=visibility_off aria-label="{t("access.hide", key=name)}"')
                copy_place.clear()
                with copy_place:
                    copy_button(visit, key)

            async def regenerate() -> None:
                if not await confirm(visit, t("access.regenerate_question", key=name), t("access.regenerate")):
                    return
                keys = await attempt(visit.api.arm("POST", "/regenerateKey", json={"keyName": f"Key{place}"}))
                if keys is not None:
                    show(str(keys[f"key{place}"]))
                    ui.notify(t("access.regenerated", key=name), type="positive")

            eye = ui.button(icon="visibility", on_click=reveal).props(
                f'flat round dense aria-label="{t("access.show", key=name)}"'
            )
            button(visit, t("access.regenerate"), regenerate, action=rights.REGENERATE_KEY, icon="autorenew")


def _rights(visit: Visit) -> None:
    t, account = visit.t, visit.account
    assert account is not None
    with card(t("access.mine", name=visit.api.session.name)), ui.element("ul").classes("rights"):
        for name, allowed, reason in may_words(visit):
            with ui.element("li").classes("right"):
                ui.icon("check" if allowed else "block").classes("good" if allowed else "quiet").props(
                    f'role=img aria-label="{t("access.yes" if allowed else "access.no")}"'
                )
                ui.label(t(f"access.may.{name}"))
                if reason:
                    ui.label(reason).classes("reason")


async def _roles(visit: Visit, place: ui.element) -> None:
    t = visit.t
    reason = visit.refusal(rights.READ_ROLES)
    if reason is not None:
        with place:
            ui.label(reason).classes("reason")
        return
    assignments, definitions, principals = await asyncio.gather(
        visit.api.arm("GET", _ASSIGNMENTS), visit.api.arm("GET", _DEFINITIONS), visit.api.own("GET", "/principals")
    )
    kinds = [RoleKind.read(row) for row in definitions["value"]]
    holders = holders_of(principals["data"])
    place.clear()
    with place:
        rows = rows_of(assignments["value"], kinds, holders)
        if not rows:
            empty(t("access.no_roles"))
        for row in rows:
            _role_row(visit, place, row)
        _add_role(visit, place, kinds, holders)


def _role_row(visit: Visit, place: ui.element, row: dict[str, str]) -> None:
    t = visit.t

    async def remove() -> None:
        question = t("access.remove_question", role=row["role"], name=row["name"])
        if not await confirm(visit, question, t("access.remove")):
            return
        done = await attempt(visit.api.arm("DELETE", row["id"], scope=""))
        if done is not None:
            await _roles(visit, place)

    with ui.element("div").classes("spread holder"):
        with ui.element("div"):
            ui.label(row["name"]).classes("strong")
            ui.label(t("access.holds", role=row["role"], scope=t(f"access.scope.{row['level']}"))).classes("quiet")
        remover = button(visit, t("access.remove"), remove, action=rights.DELETE_ROLES, kind="danger")
        remover.props(f'aria-label="{t("access.remove")}: {row["role"]}, {row["name"]}"')


def _add_role(visit: Visit, place: ui.element, kinds: list[RoleKind], holders: dict[str, Holder]) -> None:
    t, account = visit.t, visit.account
    assert account is not None
    scopes = {
        account.id: t("access.scope.account"),
        account.id.split("/providers/")[0]: t("access.scope.group"),
        f"/subscriptions/{account.subscription}": t("access.scope.subscription"),
    }
    heading(t("access.add"), 3)
    with ui.element("div").classes("grid"):
        who = ui.select({one.id: one.label for one in holders.values()}, label=t("access.who"), with_input=True).props(
            "outlined dense"
        )
        role = ui.select({kind.id: kind.name for kind in kinds}, label=t("access.role")).props("outlined dense")
        scope = ui.select(scopes, value=account.id, label=t("access.where")).props("outlined dense")
    allows = ui.label("").classes("quiet")
    told = ui.element("div")

    def explain() -> None:
        kind = next((one for one in kinds if one.id == role.value), None)
        allows.set_text("" if kind is None else t("access.allows", actions=", ".join(kind.short)))

    role.on_value_change(explain)

    async def add() -> None:
        if not who.value or not role.value:
            told.clear()
            with told:
                problem(t("access.choose_both"))
            return
        body: dict[str, Any] = {
            "properties": {
                "roleDefinitionId": role.value,
                "principalId": who.value,
                "principalType": holders[str(who.value)].kind,
            }
        }
        where = f"{_ASSIGNMENTS}/{uuid.uuid4()}"
        if await attempt(visit.api.arm("PUT", where, scope=str(scope.value), json=body), told) is not None:
            ui.notify(t("access.added"), type="positive")
            await _roles(visit, place)

    button(visit, t("access.add"), add, action=rights.WRITE_ROLES, icon="person_add", kind="primary")
