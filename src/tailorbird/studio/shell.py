"""The frame around every page: navigation, account, language, theme; and which path is which page."""

from __future__ import annotations

import copy
import functools
import html
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from nicegui import ui
from nicegui.elements.sub_pages import SubPages
from nicegui.language import Language

from tailorbird.studio import sign_in
from tailorbird.studio.client import Api, Refused, Wire
from tailorbird.studio.controls import problem, title
from tailorbird.studio.pages import PAGES
from tailorbird.studio.session import COOKIE, Sessions
from tailorbird.studio.visit import Visit
from tailorbird.studio.words import LANGUAGES

log = logging.getLogger(__name__)

Page = Callable[..., Awaitable[None]]
_QUASAR: dict[str, Language] = {"en": "en-US", "ja": "ja", "nl": "nl"}
# Path of the page, its name in the catalogue, its icon.
NAVIGATION = (
    ("/", "home", "home"),
    ("/files", "files", "description"),
    ("/create", "create", "auto_fix_high"),
    ("/jobs", "jobs", "model_training"),
    ("/deployments", "deployments", "rocket_launch"),
    ("/playground", "playground", "forum"),
    ("/access", "access", "vpn_key"),
    ("/usage", "usage", "insights"),
)


def add_pages(wire: Wire, sessions: Sessions) -> None:
    async def frame(request: Request) -> Response | None:
        cookie = request.cookies.get(COOKIE, "")
        session = sessions.find(cookie)
        prefix = request.scope.get("root_path", "")
        path = request.url.path.removeprefix(prefix) or "/"
        then = path + (f"?{request.url.query}" if request.url.query else "")
        elsewhere = RedirectResponse(f"{prefix}{sign_in.PATH}?then={quote(then, safe='/')}", 303)
        if session is None:
            return elsewhere
        visit = Visit(Api(wire, sessions, cookie, session), [], sign_in.language_of(request), sign_in.theme_of(request))
        try:
            visit.accounts = await visit.api.choose(request.query_params.get("account", ""))
        except Refused as error:
            if error.status == 401:
                sessions.end(cookie)
                return elsewhere
            _frame(visit, path, prefix, error)
            return None
        _frame(visit, path, prefix, None)
        return None

    ui.page("/")(frame)
    ui.page("/{_:path}")(frame)


def _frame(visit: Visit, path: str, prefix: str, error: Refused | None) -> None:
    t = visit.t
    _head(visit, prefix)
    with (
        ui.left_drawer(value=None, bordered=False).props('width=248 breakpoint=900 role="none"').classes("side") as side
    ):
        links = _navigation(visit, path)
    # Where the navigation lies over the page (Quasar's breakpoint above), following a link puts it away.
    side.on("click", side.hide, js_handler="(event) => innerWidth < 900 && event.target.closest('a') && emit()")
    with ui.header(elevated=False).classes("top").props("role=banner"):
        ui.html(f'<a class="skip" href="#content">{t("shell.skip")}</a>', sanitize=False)
        menu = ui.button(icon="menu", on_click=side.toggle).props(f'flat round dense aria-label="{t("shell.menu")}"')
        menu.classes("only-narrow")
        with ui.link(target="/").classes("brand"):
            ui.html(f'<img src="{prefix}/static/favicon.svg" alt="" width="24" height="24">', sanitize=False)
            ui.label("Tailorbird Studio")
        ui.space()
        _account_menu(visit)
        _person_menu(visit, prefix)
    with ui.element("div").props('id=content tabindex="-1"').classes("content"):
        if error is not None:
            problem(error)
        elif visit.account is None:
            ui.label(t("shell.no_account"))
        else:
            routes: dict[str, Callable[..., Any]] = {where: _guarded(page, visit) for where, page in PAGES.items()}
            Content(visit, routes)

    def moved(where: str) -> None:
        for target, link in links.items():
            _mark(link, _is_at(target, where))

    ui.context.client.sub_pages_router.on_path_changed(moved)


class Content(SubPages):
    """The page that belongs to the address; a sentence where there is none."""

    def __init__(self, visit: Visit, routes: dict[str, Callable[..., Any]]) -> None:
        self._visit = visit
        super().__init__(routes, data={"visit": visit})

    def _render_404(self) -> None:
        title(self._visit, self._visit.t("shell.not_found"))
        ui.link(self._visit.t("shell.back_home"), "/")


def _head(visit: Visit, prefix: str) -> None:
    ui.add_head_html(
        f'<link rel="stylesheet" href="{prefix}/static/studio.css">'
        f'<script src="{prefix}/static/studio.js" defer></script>'
        f'<script src="{prefix}/static/dropping.js" defer></script>'
        f'<meta name="account" content="{html.escape(visit.account.id if visit.account else "")}">'
    )
    # The page object is everybody's; the words of its tables and its `lang` are this visitor's.
    client = ui.context.client
    client.page = copy.copy(client.page)
    client.page.language = _QUASAR[visit.t.language]
    ui.dark_mode(visit.dark)
    ui.colors(primary="#0f6c63", secondary="#51606b", accent="#8a5a00", positive="#18794e", negative="#b3261e")


def _navigation(visit: Visit, path: str) -> dict[str, ui.link]:
    links: dict[str, ui.link] = {}
    with ui.element("nav").props(f'aria-label="{visit.t("shell.navigation")}"').classes("pages"):
        for target, name, icon in NAVIGATION:
            with ui.link(target=target).classes("page") as link:
                ui.icon(icon).props('aria-hidden="true"')
                ui.label(visit.t(f"shell.{name}"))
            _mark(link, _is_at(target, path))
            links[target] = link
    return links


def _is_at(target: str, path: str) -> bool:
    plain = path.split("?", 1)[0]
    return plain == target or (target != "/" and plain.startswith(f"{target}/"))


def _mark(link: ui.link, here: bool) -> None:
    link.props("aria-current=page" if here else None, remove=None if here else "aria-current")


def _account_menu(visit: Visit) -> None:
    t, account = visit.t, visit.account
    if account is None:
        return
    if len(visit.accounts) == 1:
        ui.label(account.name).classes("account wide-only").tooltip(
            f"{t('shell.subscription')}: {account.subscription}"
        )
        return
    choices = {one.id: f"{one.name} · {one.resource_group}" for one in visit.accounts}
    ui.select(
        choices,
        value=account.id,
        on_change=lambda event: ui.navigate.to(f"/?account={quote(str(event.value))}", new_tab=False),
    ).props(f'dense outlined options-dense aria-label="{t("shell.account")}"').classes("account")


def _person_menu(visit: Visit, prefix: str) -> None:
    t = visit.t
    with (
        ui.button(icon="account_circle").props(
            f'flat round aria-label="{t("shell.signed_in_as", name=visit.api.session.name)}"'
        ),
        ui.menu().props("auto-close"),
    ):
        ui.label(t("shell.signed_in_as", name=visit.api.session.name)).classes("menu-note")
        ui.separator()
        for code, name in LANGUAGES.items():
            item = ui.menu_item(name, on_click=functools.partial(_remember, sign_in.LANGUAGE_COOKIE, code, prefix))
            item.props(f'lang={code} data-language="{code}"').classes("chosen" if code == t.language else "")
        ui.separator()
        for value, name, dark in (("light", "light", False), ("dark", "dark", True), ("auto", "auto", None)):
            item = ui.menu_item(
                t(f"shell.{name}"), on_click=functools.partial(_remember, sign_in.THEME_COOKIE, value, prefix)
            )
            item.classes("chosen" if dark is visit.dark else "")
        ui.separator()
        ui.menu_item(t("shell.sign_out"), on_click=lambda: ui.run_javascript("studio.signOut()"))


def _remember(cookie: str, value: str, prefix: str) -> None:
    ui.run_javascript(
        f'document.cookie="{cookie}={value};path={prefix or "/"};max-age=31536000;samesite=lax";location.reload()'
    )


def _guarded(page: Page, visit: Visit) -> Page:
    """What the service refused while a page was built is shown in its place; a session that ended leads to the form."""

    @functools.wraps(page)
    async def shown(*args: Any, **kwargs: Any) -> None:
        with ui.element("div").classes("page-body") as body:
            try:
                await page(*args, **kwargs)
            except Refused as error:
                if error.status == 401:
                    ui.navigate.to(sign_in.PATH)
                    return
                body.clear()
                with body:
                    problem(error)
            except Exception:
                log.exception("a page failed", extra={"page": page.__module__})
                body.clear()
                with body:
                    ui.label(visit.t("shell.failed")).classes("problem").props("role=alert")
                    ui.button(visit.t("shell.retry"), on_click=lambda: ui.navigate.reload())

    return shown
