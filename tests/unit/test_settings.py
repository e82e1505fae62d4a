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


@pytest.mark.parametrize("given", [{"train_processes": 0}, {"train_processes": 2, "jobs_together": 3}])
def test_several_processes_for_a_job_and_several_jobs_in_a_process_do_not_go_together(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="train_processes"):
        _ = load(given, {}).processes_per_job
    assert load({"train_processes": 2}, {}).processes_per_job == 2
