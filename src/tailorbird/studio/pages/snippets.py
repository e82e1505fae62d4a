"""A request as code that runs as it stands: curl, Python on either surface, JavaScript, az. Keys are never in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from nicegui import ui

from tailorbird.studio.client import Account, Refused
from tailorbird.studio.visit import Visit

API_VERSION = "2024-10-21"
_CHAT, _COMPLETIONS = "/chat/completions", "/completions"


@dataclass(frozen=True, slots=True)
class Call:
    """`endpoint` has no slash at its end. `direct` is a model by its own name, which only OpenAI's surface takes.

    `body` holds neither `model` nor `stream`."""

    endpoint: str
    model: str
    body: Mapping[str, Any]
    is_chat: bool = True
    direct: bool = False

    @property
    def path(self) -> str:
        return _CHAT if self.is_chat else _COMPLETIONS

    @property
    def base_url(self) -> str:
        return f"{self.endpoint}{'/v1' if self.direct else '/openai/v1'}"


def curl(call: Call) -> str:
    body = json.dumps({"model": call.model, **call.body}, ensure_ascii=False, indent=2)
    # In a shell a quote inside quotes ends them; the four signs say: end, a quote, begin again.
    quoted = body.replace("'", "'\\''")
    return (
        f'curl {call.base_url}{call.path} \\\n  -H "api-key: $AZURE_OPENAI_API_KEY" \\\n'
        f"  -H 'Content-Type: application/json' \\\n  -d '{quoted}'\n"
    )


def python_azure(call: Call) -> str:
    """The classic client, which puts the deployment into the path."""
    return (
        "import os\n\nfrom openai import AzureOpenAI\n\n"
        f'client = AzureOpenAI(\n    azure_endpoint="{call.endpoint}",\n'
        f'    api_key=os.environ["AZURE_OPENAI_API_KEY"],\n    api_version="{API_VERSION}",\n)\n' + _python(call)
    )


def python_v1(call: Call) -> str:
    """OpenAI's own client at a v1 address: no api-version."""
    return (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(\n    base_url="{call.base_url}/",\n'
        '    api_key=os.environ["AZURE_OPENAI_API_KEY"],\n)\n' + _python(call)
    )


def javascript(call: Call) -> str:
    body = json.dumps({"model": call.model, **call.body}, ensure_ascii=False, indent=2)
    method = "chat.completions" if call.is_chat else "completions"
    said = "message.content" if call.is_chat else "text"
    return (
        'import OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{\n  baseURL: "{call.base_url}/",\n'
        "  apiKey: process.env.AZURE_OPENAI_API_KEY,\n});\n"
        f"const response = await client.{method}.create({body});\n"
        f"console.log(response.choices[0].{said});\n"
    )


def az(account: Account, name: str, model: str, sku: str, capacity: int, version: str) -> str:
    """Creates the deployment, or shows how it was created."""
    return (
        "az cognitiveservices account deployment create \\\n"
        f"  --resource-group {account.resource_group} --name {account.name} \\\n"
        f"  --deployment-name {name} \\\n"
        f'  --model-name "{model}" --model-version "{version}" --model-format OpenAI \\\n'
        f"  --sku-name {sku} --sku-capacity {capacity}\n"
    )


def _python(call: Call) -> str:
    method = "chat.completions" if call.is_chat else "completions"
    said = "message.content" if call.is_chat else "text"
    fields = "".join(f"    {name}={_literal(value)},\n" for name, value in {"model": call.model, **call.body}.items())
    return f"response = client.{method}.create(\n{fields})\nprint(response.choices[0].{said})\n"


def _literal(value: Any) -> str:
    """As Python writes it, with double quotes; a list of objects an object a line."""
    if isinstance(value, str):
        # What JSON escapes, Python reads alike.
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return "{" + ", ".join(f"{_literal(name)}: {_literal(one)}" for name, one in fields.items()) + "}"
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if items and all(isinstance(one, Mapping) for one in items):
            return "[\n" + "".join(f"        {_literal(one)},\n" for one in items) + "    ]"
        return "[" + ", ".join(_literal(one) for one in items) + "]"
    return repr(value)


async def endpoint_of(visit: Visit) -> str:
    """Where the account's data plane answers: as the control plane says, else as this browser reached the Studio."""
    try:
        told = await visit.api.fresh("", 60.0, plane="arm")
        address = str(told["properties"]["endpoint"])
        if address:
            return address.rstrip("/")
    except (Refused, KeyError, TypeError):
        pass  # A key's holder has no control plane.
    request = ui.context.client.request
    return f"{request.url.scheme}://{request.url.netloc}{visit.account.path if visit.account else ''}"
