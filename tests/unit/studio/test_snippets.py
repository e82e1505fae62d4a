"""Requests as code: they run as they stand, and hold no key."""

from __future__ import annotations

import ast
import json
import shlex
from typing import Any

import pytest

from tailorbird.studio.client import Account
from tailorbird.studio.pages import snippets
from tailorbird.studio.pages.snippets import Call

AWKWARD = 'It\'s "quoted", ünïcode, a \\ and\na new line'
BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": AWKWARD}],
    "temperature": 0.5,
    "stop": ["\n", "'"],
    "max_tokens": 20,
}
CALL = Call("http://here:8080/accounts/lab", "mine", BODY)


def create_arguments(source: str) -> dict[str, Any]:
    """Of the one call of `create`."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    [found] = [one for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr == "create"]
    return {str(one.arg): ast.literal_eval(one.value) for one in found.keywords}


@pytest.mark.parametrize("write", [snippets.python_azure, snippets.python_v1])
def test_python_says_exactly_what_was_set(write: Any) -> None:
    assert create_arguments(write(CALL)) == {"model": "mine", **BODY}


def test_a_shell_passes_curl_the_body_as_it_is() -> None:
    words = shlex.split(snippets.curl(CALL))
    assert words[1] == "http://here:8080/accounts/lab/openai/v1/chat/completions"
    assert json.loads(words[-1]) == {"model": "mine", **BODY}


def test_a_model_without_a_deployment_is_asked_on_openai_s_surface() -> None:
    call = Call("http://here:8080", "gpt-4o", {"prompt": "a"}, is_chat=False, direct=True)
    assert "http://here:8080/v1/completions" in snippets.curl(call)
    assert 'base_url="http://here:8080/v1/"' in snippets.python_v1(call)
    assert "client.completions.create" in snippets.javascript(call)
    assert "choices[0].text" in snippets.javascript(call)


def test_keys_come_from_the_environment() -> None:
    for write in (snippets.python_azure, snippets.python_v1, snippets.javascript, snippets.curl):
        assert "AZURE_OPENAI_API_KEY" in write(CALL)


def test_az_creates_the_same_deployment() -> None:
    account = Account("lab", "/id", "sub", "group", "local", "", frozenset())
    words = shlex.split(snippets.az(account, "mine", "gpt-4o.ft-1", "DeveloperTier", 5, "1").replace("\\\n", " "))
    assert words[:5] == ["az", "cognitiveservices", "account", "deployment", "create"]
    given = dict(zip(words[5::2], words[6::2], strict=True))
    assert given["--resource-group"] == "group"
    assert given["--name"] == "lab"
    assert (given["--deployment-name"], given["--model-name"]) == ("mine", "gpt-4o.ft-1")
    assert given["--model-version"] == "1"
    assert (given["--sku-name"], given["--sku-capacity"]) == ("DeveloperTier", "5")
