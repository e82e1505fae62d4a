"""Settings that are more than a word: read into values, or refused by name."""

from __future__ import annotations

import pytest

from tailorbird.settings import load


def test_outside_issuers_are_pairs_of_url_and_audience() -> None:
    text = "https://login.example/t|api://a , http://localhost:9/x|b"
    assert load({"oidc_issuers": text}, {}).issuers == [
        ("https://login.example/t", "api://a"),
        ("http://localhost:9/x", "b"),
    ]
    assert load({}, {}).issuers == []


@pytest.mark.parametrize("text", ["https://login.example", "|aud", "https://login.example|", "http://login.example|a"])
def test_an_issuer_that_is_not_whole_or_not_safe_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="oidc_issuers"):
        _ = load({"oidc_issuers": text}, {}).issuers
