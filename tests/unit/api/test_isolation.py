"""Every route, called by somebody else: nobody sees, changes or learns of another account's things.

The routes are walked, not listed. A route with a new path parameter needs an example of account A's in EXAMPLES, one
that takes a body a line in BODIES that names A's things; without, a test says so.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from tailorbird.api.app import create_app
from tailorbird.api.dialects import DIALECTS, TAILORBIRD, dialect_of
from tailorbird.domain.access import Account, Role
from tailorbird.domain.jobs import Checkpoint, Hyperparameters, Job, JobStatus, Stage
from tailorbird.domain.models import TunedModel

MARK = "secret-of-a"
BASE = "gpt-4o-mini-2024-07-18"
PREFIXES = {dialect.name: dialect.prefix.replace("{project}", "p1") for dialect in DIALECTS}
OWN = TAILORBIRD.prefix
HEADERS = {"aoai-copy-ft-checkpoints": "preview"}
MESSAGES = [{"role": "user", "content": f"what is {MARK}"}]


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    endpoint: str
    on_control_plane: bool

    @property
    def key(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def names(self) -> list[str]:
        return re.findall(r"\{(\w+)(?::\w+)?\}", self.path)


@dataclass(frozen=True)
class Things:
    """One of each that account A has; `b` is the other account, `token` its robot's with every role on `b` alone."""

    a: Account
    b: Account
    token: str
    owner: str
    ids: dict[str, str]

    def fill(self, path: str) -> str:
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: EXAMPLES[found[1]](self), path)


def kept(name: str) -> Callable[[Things], str]:
    return lambda things: things.ids[name]


EXAMPLES: dict[str, Callable[[Things], str]] = {
    "file_id": kept("file"),
    "upload_id": kept("upload"),
    "job_id": kept("job"),
    "checkpoint": kept("checkpoint"),
    "permission_id": lambda _: "cp_0123456789abcdef01234567",
    "model": kept("model"),
    "completion_id": kept("completion"),
    "eval_id": kept("eval"),
    "run_id": kept("run"),
    "item_id": kept("item"),
    "subscription": lambda things: things.a.subscription_id,
    "group": lambda things: things.a.resource_group,
    "account": lambda things: things.a.name,
    "deployment": kept("deployment"),
    "operation": lambda _: "create",
    "location": lambda things: things.a.location,
    "assignment": kept("assignment"),
    "definition": lambda _: "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
}

Body = Callable[[Things], dict[str, Any]]


def nothing(_: Things) -> dict[str, Any]:
    return {}


def sent(**fields: Any) -> Body:
    """A JSON body; a value that is callable is asked for A's thing."""
    return lambda things: {"json": {name: v(things) if callable(v) else v for name, v in fields.items()}}


_ARM = "/subscriptions/{subscription}/resourcegroups/{group}"
_ACCOUNT = f"{_ARM}/providers/microsoft_cognitiveservices/accounts/{{account}}"
_ROLES = "providers/microsoft_authorization/roleassignments/{assignment}"
_DEPLOYMENT = sent(
    sku={"name": "Standard", "capacity": 1}, properties={"model": {"format": "OpenAI", "name": BASE, "version": "1"}}
)
_ROLE = sent(properties={"roleDefinitionId": "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "principalId": "robber"})

BODIES: dict[str, Body] = {
    "POST /files": lambda things: {"data": {"purpose": "fine-tune"}, "files": {"file": ("b.jsonl", b"{}\n")}},
    "POST /files/import": sent(
        content_url=lambda things: f"http://127.0.0.1:9/{things.ids['file']}", filename="b.jsonl", purpose="fine-tune"
    ),
    "POST /uploads": sent(filename="b.jsonl", purpose="fine-tune", bytes=10, mime_type="text/jsonl"),
    "POST /uploads/{upload_id}/parts": lambda things: {"files": {"data": ("data", b"robbed")}},
    "POST /uploads/{upload_id}/complete": sent(part_ids=[kept("part")]),
    "POST /uploads/{upload_id}/cancel": nothing,
    "POST /fine_tuning/jobs": sent(model=BASE, training_file=kept("file")),
    "POST /fine_tuning/jobs/{job_id}/cancel": nothing,
    "POST /fine_tuning/jobs/{job_id}/pause": nothing,
    "POST /fine_tuning/jobs/{job_id}/resume": nothing,
    "POST /fine_tuning/jobs/{job_id}/events": nothing,
    "POST /fine_tuning/jobs/{job_id}/checkpoints": nothing,
    "POST /fine_tuning/jobs/{job_id}/checkpoints/{checkpoint}/copy": sent(
        destinationResourceId=lambda things: things.b.resource_id, region="local"
    ),
    "POST /fine_tuning/checkpoints/{checkpoint}/permissions": sent(project_ids=[lambda things: things.b.name]),
    "POST /fine_tuning/alpha/graders/run": sent(
        grader={"type": "string_check", "name": "g", "input": "a", "reference": "a", "operation": "eq"},
        model_sample="a",
    ),
    "POST /fine_tuning/alpha/graders/validate": sent(
        grader={"type": "string_check", "name": "g", "input": "a", "reference": "a", "operation": "eq"}
    ),
    "PUT /fine_tuning/integrations/wandb": sent(api_key="b" * 40),
    "POST /chat/completions": sent(model=kept("deployment"), messages=[{"role": "user", "content": "hi"}]),
    "POST /chat/completions/{completion_id}": sent(metadata={"robbed": "yes"}),
    "POST /completions": sent(model=kept("model"), prompt="hi"),
    "POST /embeddings": sent(model=kept("deployment"), input="hi"),
    "POST /evals": sent(
        data_source_config={"type": "custom", "item_schema": {"type": "object", "properties": {}}},
        testing_criteria=[{"type": "string_check", "name": "g", "input": "a", "reference": "a", "operation": "eq"}],
    ),
    "POST /evals/{eval_id}": sent(name="robbed"),
    "POST /evals/{eval_id}/runs": sent(
        data_source={"type": "jsonl", "source": {"type": "file_id", "id": kept("file")}}
    ),
    "POST /evals/{eval_id}/runs/{run_id}": nothing,
    "POST /evals/{eval_id}/runs/{run_id}/cancel": nothing,
    f"POST {OWN}/fine_tuning/jobs/estimate": sent(model=BASE, training_file=kept("file")),
    f"PUT {OWN}/budget": sent(amount="10.00"),
    f"PUT {_ARM}": sent(location="local"),
    f"PATCH {_ARM}": sent(tags={"robbed": "yes"}),
    f"PUT {_ACCOUNT}": sent(location="local", kind="OpenAI"),
    f"PATCH {_ACCOUNT}": sent(tags={"robbed": "yes"}),
    f"POST {_ACCOUNT}/listkeys": nothing,
    f"POST {_ACCOUNT}/regeneratekey": sent(keyName="Key1"),
    f"PUT {_ACCOUNT}/deployments/{{deployment}}": _DEPLOYMENT,
    f"POST {_ACCOUNT}/deployments/{{deployment}}": _DEPLOYMENT,
    f"PATCH {_ACCOUNT}/deployments/{{deployment}}": sent(tags={"robbed": "yes"}),
    f"POST {_ACCOUNT}/deployments/{{deployment}}/pause": nothing,
    f"POST {_ACCOUNT}/deployments/{{deployment}}/resume": nothing,
    **{f"PUT {scope}{_ROLES}": _ROLE for scope in ("/", "/subscriptions/{subscription}/", f"{_ARM}/", f"{_ACCOUNT}/")},
}

# Routes that hold nothing of any account: health, and what leads to a login.
PUBLIC = {
    "_health", "metadata", "instance", "realm", "token", "device_code", "discovery", "signing_keys", "show", "sign_in",
    "list_tenants", "list_definitions", "show_definition",
}  # fmt: skip
# Routes that make something of B's own; what they are told of A's must not be used.
MAKES = {
    "POST /files", "POST /files/import", "POST /uploads", "POST /evals", "POST /fine_tuning/alpha/graders/run",
    "POST /fine_tuning/alpha/graders/validate",
}  # fmt: skip


def walk(routes: list[Any], prefix: str = "") -> Iterator[tuple[str, APIRoute]]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield prefix + route.path, route
        elif hasattr(route, "original_router"):
            yield from walk(route.original_router.routes, prefix + route.include_context.prefix)


# No request is made: the app needs somewhere to register its figures, and nothing else.
_NOBODY = SimpleNamespace(registry=CollectorRegistry())


def all_routes() -> list[Route]:
    """Each once: the data plane by the paths below its prefixes, the control plane with its words as they are read."""
    found: dict[tuple[str, str], Route] = {}
    for path, route in walk(create_app(cast(Any, _NOBODY)).routes):
        prefix = next((d.prefix for d in DIALECTS if path.startswith(d.prefix + "/")), None)
        plain = path if prefix is None else path[len(prefix) :]
        prefix = prefix or (OWN if dialect_of(path) is TAILORBIRD else None)
        plain = re.sub(r"\{fixed_\d+:word_(\w+)\}", r"\1", plain).replace(":path}", "}")
        for method in route.methods or ():
            found[method, plain] = Route(method, plain, route.name, prefix is None)
    return sorted(found.values(), key=lambda one: (one.path, one.method))


ROUTES = all_routes()


def test_the_walk_finds_both_planes() -> None:
    keys = {route.key for route in ROUTES}
    assert {"GET /files/{file_id}", "POST /fine_tuning/jobs", f"POST {_ACCOUNT}/listkeys"} <= keys
    assert len(ROUTES) > 90


@pytest.mark.parametrize("route", [r for r in ROUTES if r.endpoint not in PUBLIC], ids=lambda r: r.key)
def test_every_route_has_examples_of_what_is_not_the_callers(route: Route) -> None:
    missing = [name for name in route.names if name not in EXAMPLES]
    assert not missing, f"{route.key}: add account A's {missing} to EXAMPLES (and make one in the fixture `things`)"
    if route.method in ("POST", "PUT", "PATCH"):
        assert route.key in BODIES, f"{route.key}: add a body to BODIES that names things of account A"


@pytest.fixture(scope="module")
def things(world: Any, http: httpx.Client) -> Things:
    a, b = world.new_account(), world.new_account()

    def ask(method: str, path: str, prefix: str = "/openai/v1", **more: Any) -> Any:
        answer = http.request(method, prefix + path, headers={"api-key": a.key1}, **more)
        assert answer.status_code < 300, (method, path, answer.text)
        return answer.json()

    line = json.dumps({"messages": [*MESSAGES, {"role": "assistant", "content": MARK}]}).encode() + b"\n"
    ids = {"file": ask("POST", "/files", data={"purpose": "fine-tune"}, files={"file": (f"{MARK}.jsonl", line)})["id"]}
    upload = {"filename": f"{MARK}.jsonl", "purpose": "fine-tune", "bytes": 10, "mime_type": "text/jsonl"}
    ids["upload"] = ask("POST", "/uploads", json=upload)["id"]
    ids["part"] = ask("POST", f"/uploads/{ids['upload']}/parts", files={"data": ("data", b"x" * 10)})["id"]
    ask("PUT", "/fine_tuning/integrations/wandb", json={"api_key": f"{MARK}-{'0' * 40}"})
    ids.update(trained(world, a))
    ids["deployment"] = f"dep-{a.name}"
    world.services.deployments.create(a, ids["deployment"], model_name=BASE, by="test")
    asyncio.run(world.services.deployments.provision(a.id, ids["deployment"]))
    chat = {"model": ids["deployment"], "messages": MESSAGES, "store": True, "metadata": {"k": MARK}}
    ids["completion"] = ask("POST", "/chat/completions", json=chat)["id"]
    ids.update(evaluated(ask))
    world.services.cost.tokens.charge(all_of_it=True)
    owner = robot(world, {Role.OWNER: a.resource_id})
    scope = a.resource_id
    made, _ = world.services.access.roles.assign("somebody", Role.READER, scope, by="test", description=MARK)
    ids["assignment"] = made.id
    roles = (Role.COGNITIVE_CONTRIBUTOR, Role.OPENAI_CONTRIBUTOR, Role.OWNER)
    return Things(a, b, robot(world, dict.fromkeys(roles, b.resource_id)), owner, ids)


def trained(world: Any, a: Account) -> dict[str, str]:
    """A queued job that has a checkpoint and a model, which no real one has; here each must be found by its own id."""
    code, now = uuid.uuid4().hex, datetime.now(UTC)
    job = Job(
        f"ftjob-{code}", a.id, JobStatus.QUEUED, Stage.VALIDATE, BASE, "tiny", "file-1", 1, Hyperparameters(), now, now,
        suffix=MARK, metadata={"k": MARK},
    )  # fmt: skip
    model = TunedModel(
        f"{BASE}.ft-{code}", f"ft:{BASE}:org::{code[:8]}", a.id, job.id, f"ftchkpt-{code}", BASE, "tiny",
        "hash", now,
    )  # fmt: skip
    checkpoint = Checkpoint(
        model.checkpoint_id, job.id, a.id, 9, model.name, model.openai_name, f"accounts/{a.id}/adapters/x", now,
        final=True, deployable=True,
    )  # fmt: skip
    with world.store.begin() as tx:
        tx.jobs.add(job)
        tx.jobs.add_checkpoint(checkpoint)
        tx.models.add(model)
    return {"job": job.id, "checkpoint": checkpoint.id, "model": model.name}


def evaluated(ask: Callable[..., Any]) -> dict[str, str]:
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    grader = {"type": "string_check", "name": MARK, "input": "{{item.x}}", "reference": "a", "operation": "eq"}
    config = {"type": "custom", "item_schema": schema}
    made = ask("POST", "/evals", json={"name": MARK, "data_source_config": config, "testing_criteria": [grader]})["id"]
    source = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"x": MARK}}]}}
    run = ask("POST", f"/evals/{made}/runs", json={"name": MARK, "data_source": source})["id"]
    end = time.monotonic() + 10
    while not (items := ask("GET", f"/evals/{made}/runs/{run}/output_items")["data"]):
        assert time.monotonic() < end, ask("GET", f"/evals/{made}/runs/{run}")
        time.sleep(0.02)
    return {"eval": made, "run": run, "item": items[0]["id"]}


def robot(world: Any, roles: dict[Role, str]) -> str:
    """A token of a new application with these roles."""
    access = world.services.access
    made, secret = access.users.add_application("robot")
    for role, scope in roles.items():
        access.roles.assign(made.object_id, role, scope, by="test")
    audience = ["https://management.azure.com/.default"]
    return access.logins.by_secret(made.app_id, secret, audience, authority="https://control.test").access_token


def ask(http: httpx.Client, route: Route, things: Things, *, prefix: str, headers: dict[str, str]) -> httpx.Response:
    path = things.fill(route.path).replace("_", ".") if route.on_control_plane else prefix + things.fill(route.path)
    if route.path.startswith(OWN):
        path = things.fill(route.path)
    body = resolved(BODIES[route.key](things), things) if route.key in BODIES else {}
    params = {"api-version": "2024-10-21"} if route.on_control_plane or prefix == "/openai" else {}
    return http.request(route.method, path, params=params, headers=HEADERS | headers, **body)


def resolved(value: Any, things: Things) -> Any:
    if isinstance(value, dict):
        return {name: resolved(inner, things) for name, inner in value.items()}
    if isinstance(value, list):
        return [resolved(inner, things) for inner in value]
    return value(things) if callable(value) else value


def hidden(things: Things, text: str, *, ids: bool) -> list[str]:
    """What of A's stands in the text; `ids` looks for its ids too, which a refusal may repeat after the caller."""
    marks = [MARK, things.a.id, things.a.key1, things.a.key2]
    if ids:
        marks += [things.a.name, *things.ids.values()]
    return [mark for mark in marks if mark in text]


def seen_by_a(http: httpx.Client, things: Things) -> dict[str, tuple[int, str]]:
    """Every answer A gets to a question that changes nothing."""
    answers: dict[str, tuple[int, str]] = {}
    for route in ROUTES:
        if route.method == "GET" and route.endpoint not in PUBLIC:
            bearer = {"authorization": f"Bearer {things.owner}"}
            headers = bearer if route.on_control_plane else {"api-key": things.a.key1}
            answer = ask(http, route, things, prefix="/openai/v1", headers=headers)
            # Usage goes to this very moment; the audit trail tells of each try.
            text = "" if route.endpoint == "read_audit" else re.sub(r'"end":"[^"]*"', "", answer.text)
            answers[route.key] = (answer.status_code, text)
    return answers


def test_another_account_reaches_nothing_on_the_data_plane(http: httpx.Client, things: Things) -> None:
    before = seen_by_a(http, things)
    assert sum(status == 200 for status, _ in before.values()) > 30, "A must see its own things, or this proves nothing"
    key, bearer = {"api-key": things.b.key1}, {"authorization": f"Bearer {things.token}"}
    for surface, headers in [*((surface, key) for surface in PREFIXES), ("azure-v1", bearer)]:
        for route in (r for r in ROUTES if not r.on_control_plane):
            answer = ask(http, route, things, prefix=PREFIXES[surface], headers=headers)
            where = f"{surface} {route.key}: {answer.status_code} {answer.text[:300]}"
            # Who sends an id may read it in the refusal; who sends none must read none.
            assert not hidden(things, answer.text, ids=not route.names and route.key not in BODIES), where
            if route.names or (route.method == "POST" and route.key not in MAKES):
                assert answer.status_code in (400, 401, 403, 404), where
    assert seen_by_a(http, things) == before


def test_another_account_reaches_nothing_on_the_control_plane(http: httpx.Client, things: Things) -> None:
    headers = {"authorization": f"Bearer {things.token}"}
    before = seen_by_a(http, things)
    for route in (r for r in ROUTES if r.on_control_plane and r.endpoint not in PUBLIC):
        answer = ask(http, route, things, prefix="", headers=headers)
        where = f"{route.key}: {answer.status_code} {answer.text[:300]}"
        assert not hidden(things, answer.text, ids="account" not in route.names and "assignment" not in route.names), (
            where
        )
        if "account" in route.names or route.method not in ("GET", "HEAD"):
            assert answer.status_code in (401, 403, 404), where
    assert seen_by_a(http, things) == before


@pytest.mark.parametrize("route", [r for r in ROUTES if r.endpoint not in PUBLIC], ids=lambda r: r.key)
def test_nobody_reaches_anything_without_a_key(http: httpx.Client, things: Things, route: Route) -> None:
    answer = ask(http, route, things, prefix="/openai/v1", headers={"api-key": "0" * 32})
    # A route that this surface does not have says so before it asks who is there.
    assert answer.status_code in (401, 404), answer.text
    assert not hidden(things, answer.text, ids=False)


def test_a_key_is_wrong_at_another_accounts_endpoint(http: httpx.Client, things: Things) -> None:
    for account, status in ((things.b, 200), (things.a, 401)):
        answer = http.get(f"/accounts/{account.name}/openai/v1/files", headers={"api-key": things.b.key1})
        assert answer.status_code == status, account.name
    bearer = {"authorization": f"Bearer {things.token}"}
    assert http.get(f"/accounts/{things.a.name}/openai/v1/files", headers=bearer).status_code == 401
    assert http.get(f"/accounts/{things.b.name}/openai/v1/files", headers=bearer).status_code == 200
