"""Every call of the openai SDK that the service answers, on one surface; prints a JSON line for each.

    python openai_calls.py GIVEN.json SURFACE sync|async

GIVEN.json says where the server is and what was prepared there. Runs under every version of the SDK from 1.35 on.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import openai
import openai_chat
import openai_evals
import openai_files
import openai_jobs
from call_log import Run, SectionEnded

SECTIONS = {
    "files": openai_files.files,
    "uploads": openai_files.uploads,
    "models": openai_files.models,
    "jobs": openai_jobs.jobs,
    "story": openai_jobs.story,
    "chat": openai_chat.chat,
    "structured": openai_chat.structured,
    "completions": openai_chat.completions,
    "embeddings": openai_chat.embeddings,
    "stored": openai_chat.stored,
    "graders": openai_evals.graders,
    "permissions": openai_evals.permissions,
    "evals": openai_evals.evals,
    "training": openai_jobs.training,
}


def make_client(given: dict[str, Any], surface: str, asynchronous: bool, strict: bool) -> Any:
    """A client as the documentation of this surface makes it; nothing is repeated behind our back."""
    endpoint = given["endpoint"]
    shared: dict[str, Any] = {"max_retries": 0, "timeout": 120.0, "_strict_response_validation": strict}
    if surface.startswith("azure-2"):
        azure = openai.AsyncAzureOpenAI if asynchronous else openai.AzureOpenAI
        return azure(
            azure_endpoint=endpoint, api_key=given["key"], api_version=surface.removeprefix("azure-"), **shared
        )
    plain = openai.AsyncOpenAI if asynchronous else openai.OpenAI
    if surface == "project":
        return plain(base_url=f"{endpoint}/api/projects/wire/openai/v1", api_key=given["token"], **shared)
    path = "/openai/v1/" if surface == "azure-v1" else "/v1"
    return plain(base_url=endpoint + path, api_key=given["key"], **shared)


async def main(given_path: str, surface: str, mode: str) -> None:
    given = json.loads(Path(given_path).read_text(encoding="utf-8"))
    clients = [make_client(given, surface, mode == "async", strict) for strict in (surface == "openai", False)]
    label = f"{surface}-{mode}-{openai.__version__}-{uuid.uuid4().hex[:6]}".replace(".", "-")
    run = Run(clients[0], clients[1], given, surface, label)
    for name in given["sections"]:
        try:
            await SECTIONS[name](run)
        except SectionEnded:
            continue
        except Exception as error:
            # Between two calls: what a section does for itself went wrong.
            print(json.dumps({"call": f"section {name}", "ok": False, "detail": f"{type(error).__name__}: {error}"}))
    print(json.dumps({"absent": sorted(set(run.absent))}))
    for client in clients:
        closing = client.close()
        if asyncio.iscoroutine(closing):
            await closing


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
