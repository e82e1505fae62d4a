"""Sign in with a key, a user's or application's name and secret, or a token; sign out. Plain forms, no script."""

from __future__ import annotations

import html
import re
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from tailorbird.studio.client import Api, Refused, Wire, token
from tailorbird.studio.session import COOKIE, IDLE_SECONDS, Session, Sessions
from tailorbird.studio.words import LANGUAGES, Words, preferred

PATH = "/sign-in"
LANGUAGE_COOKIE, THEME_COOKIE = "tailorbird_language", "tailorbird_theme"
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WAYS = ("key", "user", "token")

Text = Annotated[str, Form()]


def language_of(request: Request) -> Words:
    """The person's choice, or what the browser asks for."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    return Words(chosen if chosen in LANGUAGES else preferred(request.headers.get("accept-language", "")))


def theme_of(request: Request) -> bool | None:
    """True is dark; None follows the browser."""
    return {"dark": True, "light": False}.get(request.cookies.get(THEME_COOKIE, ""))


def add_routes(app: Any, wire: Wire, sessions: Sessions) -> None:
    @app.get(PATH)
    def show(request: Request, way: str = "key", then: str = "/", error: str = "") -> Response:
        t, prefix = language_of(request), request.scope.get("root_path", "")
        if sessions.find(request.cookies.get(COOKIE)) is not None and not error:
            return RedirectResponse(prefix + _inside(then), 303)
        return HTMLResponse(_page(t, prefix, way if way in _WAYS else "key", _inside(then), error, theme_of(request)))

    @app.post(PATH)
    async def sign_in(
        request: Request,
        way: Text = "key",
        then: Text = "/",
        key: Text = "",
        name: Text = "",
        secret: Text = "",
        bearer: Text = "",
    ) -> Response:
        t, prefix = language_of(request), request.scope.get("root_path", "")
        try:
            session = await _session(wire, way, key.strip(), name.strip(), secret, bearer.strip(), t)
            told = await Api(wire, sessions, "", session).caller()
            cookie = sessions.begin(
                Session(session.kind, told["name"], session.credential, session.refresh_token, session.expires_at)
            )
        except Refused as error:
            query = urlencode({"way": way, "then": _inside(then), "error": error.message})
            return RedirectResponse(f"{prefix}{PATH}?{query}", 303)
        answer = RedirectResponse(prefix + _inside(then), 303)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=IDLE_SECONDS,
            path=prefix or "/",
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    @app.post("/sign-out")
    def sign_out(request: Request) -> Response:
        sessions.end(request.cookies.get(COOKIE))
        prefix = request.scope.get("root_path", "")
        answer = RedirectResponse(f"{prefix}{PATH}", 303)
        answer.delete_cookie(COOKIE, path=prefix or "/")
        return answer


async def _session(wire: Wire, way: str, key: str, name: str, secret: str, bearer: str, t: Words) -> Session:
    """Raises Refused."""
    if way == "key" and key:
        return Session("key", "", key)
    if way == "token" and bearer:
        return Session("token", "", bearer.removeprefix("Bearer ").strip())
    if way == "user" and name and secret:
        if _GUID.fullmatch(name):
            form = {"grant_type": "client_credentials", "client_id": name, "client_secret": secret}
            return Session("application", name, **await token(wire, form))
        form = {"grant_type": "password", "username": name, "password": secret}
        return Session("user", name, **await token(wire, form))
    raise Refused(t("sign_in.empty"))


def _inside(then: str) -> str:
    """A path of the Studio itself, whatever was asked for."""
    return then if re.fullmatch(r"/[\w\-./%:]*(\?[\w\-.=&%:]*)?", then) and "//" not in then else "/"


_FIELDS = {
    "key": (("key", "password", "current-password"),),
    "user": (("name", "text", "username"), ("secret", "password", "current-password")),
    "token": (("bearer", "password", "off"),),
}


def _page(t: Words, prefix: str, way: str, then: str, error: str, dark: bool | None) -> str:
    theme = "" if dark is None else ' data-theme="dark"' if dark else ' data-theme="light"'
    ways = "".join(
        f'<a href="{prefix}{PATH}?{html.escape(urlencode({"way": one, "then": then}))}"'
        f"{' aria-current=page' if one == way else ''}>{html.escape(t(f'sign_in.by_{one}'))}</a>"
        for one in _WAYS
    )
    fields = "".join(
        f'<label for="{name}">{html.escape(t(f"sign_in.{name}"))}</label>'
        f'<input id="{name}" name="{name}" type="{kind}" autocomplete="{fill}" required aria-describedby="hint"'
        f"{' autofocus' if place == 0 else ''}>"
        for place, (name, kind, fill) in enumerate(_FIELDS[way])
    )
    told = f'<p class="problem" role="alert">{html.escape(error)}</p>' if error else ""
    choices = "".join(
        f'<a lang="{code}" hreflang="{code}" href="#" data-language="{code}"'
        f"{' aria-current=true' if code == t.language else ''}>{html.escape(name)}</a>"
        for code, name in LANGUAGES.items()
    )
    return f"""<!doctype html>
<html lang="{t.language}"{theme}><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(t("sign_in.title"))} · Tailorbird Studio</title>
<link rel="icon" href="{prefix}/static/favicon.svg"><link rel="stylesheet" href="{prefix}/static/sign_in.css">
<script src="{prefix}/static/studio.js" defer></script></head>
<body><main><img src="{prefix}/static/favicon.svg" alt="" width="48" height="48">
<h1>{html.escape(t("sign_in.title"))}</h1><p class="lead">{html.escape(t("sign_in.lead"))}</p>
<nav aria-label="{html.escape(t("sign_in.ways"))}">{ways}</nav>
{told}<form method="post" action="{prefix}{PATH}"><input type="hidden" name="way" value="{way}">
<input type="hidden" name="then" value="{html.escape(then)}">{fields}
<p id="hint" class="hint">{html.escape(t(f"sign_in.hint_{way}"))}</p>
<button type="submit">{html.escape(t("sign_in.submit"))}</button></form></main>
<footer class="languages">{choices}</footer></body></html>"""
