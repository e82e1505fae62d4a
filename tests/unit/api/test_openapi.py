"""Our own OpenAPI document: what it says of bodies, parameters, statuses, errors and keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tailorbird.api.dialects import AZURE, AZURE_V1, DIALECTS, OPENAI, Dialect
from tailorbird.api.openapi import Described

JOBS = "/fine_tuning/jobs"


@pytest.fixture(scope="module")
def document(http: httpx.Client) -> dict[str, Any]:
    return http.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def resolve(document: dict[str, Any], pointer: str) -> dict[str, Any]:
    found = document
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for item in node.values():
            yield from references(item)


def body_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    kind = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return resolve(document, kind)


def test_every_reference_leads_somewhere_and_every_schema_is_one(document: dict[str, Any]) -> None:
    for pointer in set(references(document)):
        assert resolve(document, pointer)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for used in (set(document["components"]["schemas"]), set(document["components"]["responses"])):
        assert used <= {pointer.rsplit("/", 1)[1] for pointer in references(document)}


def test_every_operation_has_a_name_of_its_own_and_declares_each_piece_of_its_path(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        pieces = [one["name"] for one in operation.get("parameters", []) if one["in"] == "path"]
        assert sorted(pieces) == sorted(re.findall(r"{(\w+)}", path)), (method, path)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
def test_the_fields_of_a_new_job_stand_in_the_document(dialect: Dialect, document: dict[str, Any]) -> None:
    body = body_of(document, dialect.prefix + JOBS)
    assert {"model", "training_file", "hyperparameters", "method", "suffix", "seed", "trainingType"} <= set(
        body["properties"]
    )
    assert body["required"] == ["model", "training_file"]
    assert body["additionalProperties"] is False


def test_what_is_read_by_hand_is_described_as_it_is_read(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    epochs = Draft202012Validator(schemas["HyperparametersBody"]["properties"]["n_epochs"])
    assert [epochs.is_valid(value) for value in (1, 50, "auto", -1, None, 0, 51, "many")] == [True] * 5 + [False] * 3
    assert schemas["ChatBody"]["properties"]["messages"]["minItems"] == 1
    assert schemas["MethodBody"]["properties"]["type"]["enum"] == ["supervised", "dpo"]


def test_every_post_put_or_patch_that_reads_a_body_describes_it(document: dict[str, Any]) -> None:
    bare = {path for path, method, one in operations(document) if method != "get" and "requestBody" not in one}
    left = {path.rsplit("/", 1)[1] for path in bare if document["paths"][path].get("post")}
    assert left <= {"cancel", "pause", "resume", "{run_id}", "{eval_id}", "{completion_id}"}


def test_a_status_of_creation_is_the_dialect_s(document: dict[str, Any]) -> None:
    for dialect in DIALECTS:
        for path in (JOBS, "/files", "/files/import"):
            made = document["paths"][dialect.prefix + path]["post"]["responses"]
            assert [int(status) for status in made if int(status) < 300] == [dialect.created]
            assert ("Location" in made[str(dialect.created)]["headers"]) is dialect.location


def test_an_operation_stands_only_where_the_surface_has_it(document: dict[str, Any]) -> None:
    for dialect in DIALECTS:
        one = document["paths"][f"{dialect.prefix}{JOBS}/{{job_id}}"]
        assert ("delete" in one) is dialect.deletes_jobs
        permissions = f"{dialect.prefix}/fine_tuning/checkpoints/{{checkpoint}}/permissions"
        assert (permissions in document["paths"]) is (dialect is OPENAI)
        copying = document["paths"].get(f"{dialect.prefix}{JOBS}/{{job_id}}/checkpoints/{{checkpoint}}/copy")
        assert (copying is None) is (dialect is OPENAI)


def test_errors_have_the_shape_of_the_surface(document: dict[str, Any]) -> None:
    for dialect, needed in ((AZURE, {"code", "message", "type"}), (OPENAI, {"message", "type", "param", "code"})):
        answers = document["paths"][dialect.prefix + JOBS]["post"]["responses"]
        assert {"400", "401", "404", "409", "429", "500", "503"} <= set(answers)
        error = resolve(document, answers["404"]["$ref"])["content"]["application/json"]["schema"]["$ref"]
        assert set(resolve(document, error)["properties"]["error"]["required"]) == needed
    assert not any("422" in operation["responses"] for _, _, operation in operations(document))


def test_the_version_is_required_on_the_dated_surface_alone(document: dict[str, Any]) -> None:
    for dialect in DIALECTS:
        given = document["paths"][dialect.prefix + "/files"]["get"]["parameters"]
        (version,) = [one for one in given if one["name"] == "api-version"]
        assert version["required"] is dialect.needs_api_version
        assert {one["name"] for one in given} >= {"purpose", "after", "limit", "order"}


def test_a_filter_read_by_hand_is_a_parameter_too(document: dict[str, Any]) -> None:
    given = document["paths"][AZURE_V1.prefix + JOBS]["get"]["parameters"]
    (metadata,) = [one for one in given if one["name"] == "metadata"]
    assert (metadata["style"], metadata["schema"]["type"]) == ("deepObject", "object")


def test_a_key_or_a_token_opens_every_operation_of_the_data_plane(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"api-key", "bearer"}
    open_to_all = [path for path, _, operation in operations(document) if not operation.get("security")]
    assert open_to_all == ["/health"]


def test_inference_stands_below_its_deployment_too(document: dict[str, Any]) -> None:
    for kind in ("chat/completions", "completions", "embeddings"):
        scoped = document["paths"][f"/openai/deployments/{{deployment}}/{kind}"]["post"]
        plain = document["paths"][f"/openai/{kind}"]["post"]
        assert scoped["requestBody"] == plain["requestBody"]
    assert not any(path.startswith("/v1/deployments") for path in document["paths"])


def test_an_upload_is_a_form_with_a_file_and_a_purpose(document: dict[str, Any]) -> None:
    schema = document["paths"]["/v1/files"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["required"] == ["file", "purpose"]
    assert "fine-tune" in schema["properties"]["purpose"]["enum"]
    assert "required" not in schema["properties"]["purpose"]


def test_the_document_is_made_when_it_is_asked_for_and_then_kept() -> None:
    app = Described((), title="empty")
    assert app.openapi_schema is None
    assert app.openapi() is app.openapi()
