"""An account that holds one of everything, and our OpenAPI document with requests that name what it holds."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import requests
from installation import small_rows, wait_for
from shared_service import EMBEDDING_MODEL, Served, deploy_in

_CHAT, _EMBEDDING = "described", "described-embedding"
_MODELS = {_CHAT: "weaver", _EMBEDDING: EMBEDDING_MODEL}
"""Its deployments."""
_CAPACITY = 50
"""Every account's share of one quota."""
_MESSAGES = [{"role": "user", "content": "A table for two, please."}]
_GRADER = {
    "type": "string_check", "name": "same", "input": "{{ item.answer }}", "reference": "{{ item.wanted }}",
    "operation": "eq",
}  # fmt: skip
_EVAL = {
    "name": "described",
    "data_source_config": {
        "type": "custom",
        "item_schema": {"type": "object", "properties": {"answer": {"type": "string"}, "wanted": {"type": "string"}}},
    },
    "testing_criteria": [_GRADER],
}
_RUN = {
    "name": "described",
    "data_source": {
        "type": "jsonl",
        "source": {"type": "file_content", "content": [{"item": {"answer": "a", "wanted": "a"}}]},
    },
}


@dataclass(frozen=True)
class DescribedAccount:
    """An account of its own: what is found out with it is deleted in it too."""

    resource: str
    endpoint: str
    key: str
    ids: dict[str, str]
    document: dict[str, Any]


def describe(served: Served, name: str) -> DescribedAccount:
    """Makes the account and fills it; about two seconds."""
    one = served.installation
    account = f"{one.accounts}/{served.other_account(name)}"
    for deployment, model in _MODELS.items():
        deploy_in(one, account, deployment, model, "1", _CAPACITY)
    key = str(one.manage("POST", f"{account}/listKeys").json()["key1"])
    ids = _fill(f"{served.endpoint}/openai/v1", key)
    plain = requests.get(f"{served.endpoint}/openapi.json", timeout=30).json()
    return DescribedAccount(account, served.endpoint, key, ids, _with_examples(plain, ids, served.endpoint))


def give_back(served: Served, account: DescribedAccount) -> None:
    """Takes back what would be trained yet, and the quota of the deployments."""
    for deployment in _MODELS:
        served.installation.manage("DELETE", f"{account.resource}/deployments/{deployment}")
    jobs, headers = f"{account.endpoint}/openai/v1/fine_tuning/jobs", {"api-key": account.key}
    for job in requests.get(jobs, headers=headers, params={"limit": 1000}, timeout=30).json()["data"]:
        if job["status"] in ("pending", "running"):
            requests.post(f"{jobs}/{job['id']}/cancel", headers=headers, timeout=30)


def _fill(v1: str, key: str) -> dict[str, str]:
    def post(path: str, **body: Any) -> str:
        made = requests.post(v1 + path, headers={"api-key": key}, timeout=60, **body)
        assert made.ok, made.text
        return str(made.json()["id"])

    def look(path: str) -> dict[str, Any]:
        return requests.get(v1 + path, headers={"api-key": key}, timeout=60).json()

    form = {"files": {"file": ("rows.jsonl", small_rows(12))}, "data": {"purpose": "fine-tune"}}
    file = post("/files", **form)
    wait_for("the file", lambda: look(f"/files/{file}")["status"] == "processed", 30)
    job = post("/fine_tuning/jobs", json={"model": "gpt-4o-mini", "training_file": file, "metadata": {"made": "here"}})
    post(f"/fine_tuning/jobs/{job}/cancel")
    asked = post("/chat/completions", json={"model": _CHAT, "messages": _MESSAGES, "max_tokens": 4, "store": True})
    made = post("/evals", json=_EVAL)
    run = post(f"/evals/{made}/runs", json=_RUN)
    wait_for("the run", lambda: look(f"/evals/{made}/runs/{run}")["status"] == "completed", 30)
    items = look(f"/evals/{made}/runs/{run}/output_items")["data"]
    return {
        "file_id": file,
        "job_id": job,
        "completion_id": asked,
        "eval_id": made,
        "run_id": run,
        "item_id": str(items[0]["id"]),
        "upload_id": post("/uploads", json=_UPLOAD),
        "model": "gpt-4o-mini",
        "project": "any",
        "api-version": "2024-10-21",
    }


_UPLOAD = {"filename": "rows.jsonl", "purpose": "fine-tune", "bytes": 10, "mime_type": "application/jsonl"}


def _bodies(ids: dict[str, str], endpoint: str, chat: str, embedding: str) -> dict[str, list[dict[str, Any]]]:
    """Requests that succeed, by the end of their path."""
    # What is made here is trained until it is taken back.
    job = {"model": "gpt-4o-mini", "training_file": ids["file_id"], "hyperparameters": {"n_epochs": 1}}
    asked = {"model": chat, "messages": _MESSAGES, "max_tokens": 4}
    prompt = {"model": chat, "prompt": "A table", "max_tokens": 4}
    return {
        "/fine_tuning/jobs": [job, {**job, "suffix": "made", "seed": 1}],
        "/files/import": [{"filename": "a.jsonl", "purpose": "fine-tune", "content_url": f"{endpoint}/health"}],
        "/uploads": [_UPLOAD],
        "/chat/completions": [asked, {**asked, "stream": True}, {**asked, "logprobs": True, "store": True}],
        "/completions": [prompt, {**prompt, "stream": True}],
        "/embeddings": [{"model": embedding, "input": "A table"}, {"model": embedding, "input": ["A", "table"]}],
        "/evals": [_EVAL],
        "/evals/{eval_id}": [{"name": "described again"}],
        "/evals/{eval_id}/runs": [_RUN],
        "/alpha/graders/run": [{"grader": _GRADER, "model_sample": "a", "item": {"answer": "a", "wanted": "a"}}],
        "/alpha/graders/validate": [{"grader": _GRADER}],
        "/chat/completions/{completion_id}": [{"metadata": {"seen": "yes"}}],
    }


def _shorten(schema: dict[str, Any]) -> None:
    """Answers of a few tokens: a hundred of a thousand tokens each are right, and take minutes."""
    schema["properties"] |= {
        "n": {"type": "integer", "minimum": 1, "maximum": 2},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 8},
    }
    schema["required"] = sorted({*schema["required"], "max_tokens"})


def _with_examples(plain: dict[str, Any], ids: dict[str, str], endpoint: str) -> dict[str, Any]:
    document = copy.deepcopy(plain)
    for kind in ("ChatBody", "CompletionBody"):
        _shorten(document["components"]["schemas"][kind])
    for path, operations in document["paths"].items():
        direct = path.startswith("/v1/")
        chat, embedding = ("weaver", EMBEDDING_MODEL) if direct else (_CHAT, _EMBEDDING)
        names = {**ids, "deployment": embedding if path.endswith("/embeddings") else chat}
        bodies = _bodies(ids, endpoint, chat, embedding)
        rest = path[path.index("/v1/") + 3 :] if "/v1/" in path else path.removeprefix("/openai")
        rest = rest.removeprefix("/deployments/{deployment}")
        for method, operation in operations.items():
            if method == "delete" or rest.endswith("/cancel"):
                # Nothing is taken away while others look for it.
                continue
            for parameter in operation.get("parameters", []):
                if parameter["name"] in names:
                    parameter["examples"] = {"one": {"value": names[parameter["name"]]}}
            given = next((bodies[end] for end in bodies if rest in (end, f"/fine_tuning{end}")), None)
            # The same inference below a deployment and beside it would be twice the waiting.
            double = "inference" in operation.get("tags", ()) and not direct and "/deployments/" not in path
            if method == "post" and given is not None and not double and "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                content["examples"] = {str(number): {"value": body} for number, body in enumerate(given)}
    return document
