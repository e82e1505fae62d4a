"""The vendors' OpenAPI documents as judges of our answers: which schema an answer has to fit, and where it does not."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT.parent / "shared" / "contract" / "specs"
_FILES = {
    "azure-2024-10-21": "azure-authoring-2024-10-21.reconstructed.json",
    "azure-2025-04-01-preview": "azure-authoring-2025-04-01-preview.reconstructed.json",
    "azure-inference": "azure-inference-2025-03-01-preview.AI-Gateway-561d719.json",
    "azure-v1": "azure-v1-foundry-dataplane.AI-Gateway-561d719.json",
    "openai": "openai-openapi.main.2026-08-21.json",
}


class Spec:
    """One document. Paths are given with `{}` for each parameter: the documents name them differently."""

    def __init__(self, name: str) -> None:
        self._whole = _as_json_schema(json.loads((FOLDER / _FILES[name]).read_text(encoding="utf-8")))
        paths: dict[str, Any] = self._whole["paths"]
        self._routes = {re.sub(r"\{[^}]*\}", "{}", path): methods for path, methods in paths.items()}

    def has(self, method: str, path: str) -> bool:
        return method.lower() in self._routes.get(path, {})

    def faults(self, method: str, path: str, status: int, body: Any) -> list[str]:
        """`where: what` for each place in the body that the document does not allow."""
        answers = self._routes[path][method.lower()]["responses"]
        answer = answers.get(str(status), answers.get("default"))
        if answer is None:
            return [f"status: {status} is not among {sorted(answers)}"]
        return self._judged(_schema_of(answer), body)

    def faults_of(self, schema: str, body: Any) -> list[str]:
        """The same for a schema by its name."""
        place = "definitions" if "definitions" in self._whole else "components/schemas"
        return self._judged({"$ref": f"#/{place}/{schema}"}, body)

    def _judged(self, schema: dict[str, Any] | None, body: Any) -> list[str]:
        if schema is None:
            return []
        parts = {key: self._whole[key] for key in ("definitions", "components") if key in self._whole}
        found = Draft202012Validator({**schema, **parts}).iter_errors(body)
        # A list of twenty jobs has the same fault twenty times.
        return sorted({f"{re.sub(r'[0-9]+', 'N', e.json_path)}: {e.message[:200]}" for e in found})


@cache
def spec(name: str) -> Spec:
    return Spec(name)


def _schema_of(answer: dict[str, Any]) -> dict[str, Any] | None:
    """Swagger 2 has the schema in the answer, OpenAPI 3 below its media type; None where there is no JSON."""
    schema = answer.get("schema", answer.get("content", {}).get("application/json", {}).get("schema"))
    return None if schema == {"type": "file"} else schema


def _as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0's `nullable: true` and `exclusiveMinimum: true` as JSON Schema says them."""
    if isinstance(node, list):
        return [_as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _as_json_schema(value) for key, value in node.items()}
    if made.get("exclusiveMinimum") is True:
        made["exclusiveMinimum"] = made.pop("minimum")
    if made.pop("nullable", False) is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made
