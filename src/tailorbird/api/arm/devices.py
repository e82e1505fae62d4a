"""The page on which a person types the code another device shows, and signs in for it."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse

from tailorbird.api.arm.envelope import ArmRoute, arm_path
from tailorbird.api.context import Given
from tailorbird.domain.errors import ServiceError

PATH = "/devicelogin"
_HEADERS = {
    "Cache-Control": "no-store",
    # Nothing is loaded from anywhere, the form goes back here, and no other site shows the page inside its own.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tailorbird: sign in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 4rem auto; padding: 0 1rem; color: #1d2b20; }}
label {{ display: block; margin: 1rem 0 .25rem; }}
input, button {{ font: inherit; padding: .5rem; border: 1px solid #8a9a8c; border-radius: 4px; }}
input {{ width: 100%; box-sizing: border-box; }}
button {{ margin-top: 1.5rem; padding: .5rem 1.5rem; border: 0; background: #23653a; color: #fff; }}
[role=alert] {{ padding: .5rem .75rem; border-left: 4px solid #a3271f; background: #fbeeed; }}
</style></head><body><h1>Sign in</h1>{body}</body></html>
"""
_FORM = """{notice}<p>Enter the code your device shows. Go on only if you began this login yourself.</p>
<form method="post" action="{path}">
<label for="code">Code</label><input id="code" name="code" value="{code}" autocomplete="off" required autofocus>
<label for="username">User</label><input id="username" name="username" value="{user}" autocomplete="username" required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Sign in</button></form>"""
_DONE = '<p role="status">You are signed in on your device. You can close this page.</p>'

Text = Annotated[str, Form()]


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute)
    routes.get(arm_path(PATH))(show)
    routes.post(arm_path(PATH))(sign_in)
    return routes


def show(code: str = "") -> HTMLResponse:
    return _form(code, "", None)


def sign_in(services: Given, code: Text = "", username: Text = "", password: Text = "") -> HTMLResponse:
    try:
        services.access.logins.confirm_device(code, username, password)
    except ServiceError as error:
        return _form(code, username, error.message.split(": ", 1)[-1])
    return HTMLResponse(_PAGE.format(body=_DONE), headers=_HEADERS)


def _form(code: str, user: str, fault: str | None) -> HTMLResponse:
    notice = "" if fault is None else f'<p role="alert">{escape(fault)}</p>'
    body = _FORM.format(notice=notice, path=PATH, code=escape(code), user=escape(user))
    return HTMLResponse(_PAGE.format(body=body), 200 if fault is None else 400, _HEADERS)
