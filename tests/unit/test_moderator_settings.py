"""The settings of the safety evaluation name their faults, and each kind of moderator is built."""

from __future__ import annotations

import pytest

from tailorbird import wiring
from tailorbird.domain.safety import Category, Severity
from tailorbird.infra.moderation import BuiltinModerator, PassAll
from tailorbird.infra.moderation.endpoint import EndpointModerator
from tailorbird.infra.moderation.guard import GuardModerator
from tailorbird.settings import Settings


def built(**values: str):
    settings = Settings(**values)  # pyright: ignore[reportArgumentType]
    return wiring.build_moderator(settings, wiring.build_catalogue(settings))


async def test_the_classifier_of_the_package_is_built_and_works() -> None:
    moderator = built(moderator="builtin")
    assert isinstance(moderator, BuiltinModerator)
    harmful, safe = await moderator.score(["I will kill you tonight.", "Kill the process with signal 9."])
    assert harmful[Category.VIOLENCE] is Severity.HIGH
    assert set(safe.values()) == {Severity.SAFE}
    assert await moderator.score([]) == []


async def test_the_default_finds_everything_safe() -> None:
    moderator = built()
    assert isinstance(moderator, PassAll)
    assert await moderator.score(["I will kill you tonight."]) == [dict.fromkeys(Category, Severity.SAFE)]


def test_an_endpoint_and_a_guard_are_built_from_their_settings() -> None:
    assert isinstance(built(moderator="openai:https://host/v1", moderator_key="k"), EndpointModerator)
    guard = built(moderator="guard:weaver:shieldgemma", engine_urls="weaver=http://127.0.0.1:1")
    assert isinstance(guard, GuardModerator)


@pytest.mark.parametrize(
    "text", ["", "built-in", "builtin:x", "openai:", "openai:host", "guard:", "guard:weaver:other", "none:x"]
)
def test_what_is_no_moderator_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="moderator"):
        Settings(moderator=text).moderation  # noqa: B018


def test_a_guard_without_base_or_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a"):
        built(moderator="guard:weaver")


def test_a_faulty_threshold_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="safety_threshold"):
        Settings(safety_threshold="strict").thresholds  # noqa: B018
