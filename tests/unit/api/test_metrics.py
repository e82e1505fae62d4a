"""Figures and log lines of requests: few labels, no ids, no secrets; and who may see them."""

from __future__ import annotations

import dataclasses
import logging
import re
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tailorbird.api import metrics
from tailorbird.api.app import create_app
from tailorbird.domain.access import Account
from tailorbird.domain.errors import ServiceError


def client_of(services: Any, address: str = "127.0.0.1") -> httpx.AsyncClient:
    app = create_app(services)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 1)), base_url="http://t")


async def samples(client: httpx.AsyncClient, name: str) -> list[tuple[dict[str, str], float]]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    found = [(s.labels, s.value) for family in families for s in family.samples if s.name == name]
    return [(labels, value) for labels, value in found if labels.get("route") != "/metrics"]


async def test_requests_are_counted_by_surface_method_route_and_status(world: Any, account: Account) -> None:
    async with client_of(world.services) as client:
        for path in ("/v1/files", "/openai/v1/files", "/openai/files?api-version=2024-10-21", "/accounts/x/v1/files"):
            await client.get(path, headers={"api-key": account.key1})
        await client.get("/api/projects/p1/openai/v1/files/file-1", headers={"api-key": account.key1})
        await client.get("/nowhere")
        counted = await samples(client, "tailorbird_http_responses_total")
    found = {(x["surface"], x["method"], x["route"], x["status"]): n for x, n in counted}
    assert found == {
        ("openai", "GET", "/files", "200"): 1,
        ("openai", "GET", "/files", "401"): 1,
        ("azure-v1", "GET", "/files", "200"): 1,
        ("azure", "GET", "/files", "200"): 1,
        ("azure-project", "GET", "/files/{file_id}", "404"): 1,
        ("arm", "GET", "(none)", "404"): 1,
    }


async def test_arm_s_routes_are_named_by_their_words(world: Any) -> None:
    async with client_of(world.services) as client:
        await client.get("/SUBSCRIPTIONS/s-1/resourceGroups/g-1/providers/Microsoft.CognitiveServices/accounts/a-1")
        [(labels, _)] = await samples(client, "tailorbird_http_errors_total")
        [(where, _)] = await samples(client, "tailorbird_http_request_seconds_sum")
    assert labels == {"surface": "arm", "error": "Unauthenticated"}
    assert where["route"] == (
        "/subscriptions/{subscription}/resourcegroups/{group}/providers/microsoft_cognitiveservices/accounts/{account}"
    )


async def test_no_id_becomes_a_label(world: Any, account: Account) -> None:
    async with client_of(world.services) as client:
        for path in (
            "/v1/files/file-zzz",
            "/v1/fine_tuning/jobs/ftjob-zzz/events",
            "/v1/models/zzz",
            "/zzz",
            "/v1/zzz",
        ):
            await client.request("GET" if "model" in path else "PROPFIND", path, headers={"api-key": account.key1})
        text = (await client.get("/metrics")).text
    assert "zzz" not in text
    assert "PROPFIND" not in text


async def test_a_request_s_time_falls_into_a_bucket(world: Any) -> None:
    async with client_of(world.services) as client:
        await client.get("/v1/files")
        buckets = await samples(client, "tailorbird_http_request_seconds_bucket")
        [(_, open_now)] = await samples(client, "tailorbird_http_requests_in_flight")
    assert next(n for labels, n in buckets if labels["le"] == "+Inf") == 1
    # The request that asks.
    assert open_now == 1


async def test_rate_limit_refusals_have_their_own_counter(world: Any) -> None:
    requests = metrics.Requests(lambda: 0)
    requests.began()
    requests.ended("azure", "POST", "/chat/completions", 429, "TooManyRequests", 0.01)
    assert requests.registry.get_sample_value("tailorbird_rate_limit_refusals_total", {"surface": "azure"}) == 1
    error = {"surface": "azure", "error": "TooManyRequests"}
    assert requests.registry.get_sample_value("tailorbird_http_errors_total", error) == 1


async def test_what_escapes_every_handler_counts_as_500(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("nobody expected this")

    requests = metrics.Requests(lambda: 0)
    registry, observed = requests.registry, metrics.Observed(broken, requests)
    scope = {"type": "http", "method": "GET", "path": "/x", "client": None, "state": {"request_id": "r"}}
    with pytest.raises(RuntimeError):
        await observed(scope, None, None)  # type: ignore[arg-type]
    where = {"surface": "arm", "method": "GET", "route": "(none)", "status": "500"}
    assert registry.get_sample_value("tailorbird_http_responses_total", where) == 1
    assert registry.get_sample_value("tailorbird_http_requests_in_flight") == 0


# --- the line in the log ----------------------------------------------------------------------------------------------


async def test_each_request_leaves_one_line_without_its_query(
    world: Any, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tailorbird.access")
    async with client_of(world.services, "10.1.2.3") as client:
        await client.get("/v1/files/file-1?sig=secret-signature", headers={"api-key": account.key1})
    [line] = [vars(record) for record in caplog.records if record.name == "tailorbird.access"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/files/file-1", 400)
    assert (line["error"], line["address"]) == ("InvalidRequest", "10.1.2.3")
    assert 0 < line["ms"] < 20_000
    assert "secret-signature" not in str(line)


async def test_looking_at_health_and_metrics_is_no_news(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tailorbird.access")
    async with client_of(world.services) as client:
        await client.get("/health")
        await client.get("/metrics")
    assert [record for record in caplog.records if record.name == "tailorbird.access"] == []


# --- who may see ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
async def test_this_machine_sees_the_figures_without_a_token(world: Any, address: str) -> None:
    async with client_of(world.services, address) as client:
        answer = await client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("10.0.0.1", {}),
        ("::ffff:a00:1", {}),
        ("a-socket", {}),
        ("127.0.0.1", {"x-forwarded-for": "10.0.0.1"}),
        ("127.0.0.1", {"forwarded": "for=10.0.0.1"}),
    ],
)
async def test_others_need_a_token(world: Any, account: Account, address: str, headers: dict[str, str]) -> None:
    async with client_of(world.services, address) as client:
        assert (await client.get("/metrics", headers=headers)).status_code == 401
        key = {"api-key": account.key1, "authorization": f"Bearer {account.key1}"}
        assert (await client.get("/metrics", headers=headers | key)).status_code == 401


async def test_others_see_them_where_the_operator_says_so(world: Any) -> None:
    async with client_of(dataclasses.replace(world.services, metrics_public=True), "10.0.0.1") as client:
        assert (await client.get("/metrics")).status_code == 200


async def test_a_usages_reader_sees_them_from_anywhere(world: Any, account: Account) -> None:
    access = world.services.access
    made, secret = access.users.add_application("prometheus")
    subscription = access.resources.groups()[0].subscription_id
    scopes = ["https://management.azure.com/.default"]

    def bearer() -> dict[str, str]:
        issued = access.logins.by_secret(made.app_id, secret, scopes, authority="https://control.test")
        return {"authorization": f"Bearer {issued.access_token}"}

    async with client_of(world.services, "10.0.0.1") as client:
        assert (await client.get("/metrics", headers=bearer())).status_code == 403
        access.roles.assign(
            made.object_id, "Cognitive Services Usages Reader", f"/subscriptions/{subscription}", by="test"
        )
        assert (await client.get("/metrics", headers=bearer())).status_code == 200


def test_every_class_of_error_is_a_word_a_label_can_be() -> None:
    words = {cls.__name__ for cls in ServiceError.__subclasses__()}
    assert all(re.fullmatch(r"[A-Za-z]+", word) for word in words)
