from __future__ import annotations

import json

import pytest

from tailorbird.api.dialects import Family
from tailorbird.api.errors import TABLE, error_body, error_response
from tailorbird.domain.errors import (
    Conflict,
    DeploymentNotFound,
    InternalFailure,
    InvalidRequest,
    InvalidToken,
    PermissionDenied,
    ServiceError,
    TooManyRequests,
)


def tree(cls: type[ServiceError]) -> set[type[ServiceError]]:
    return {cls, *(below for child in cls.__subclasses__() for below in tree(child))}


def test_every_error_of_the_tree_has_its_own_row():
    # Classes of tests and of other packages do not count.
    own = {cls for cls in tree(ServiceError) if cls.__module__ == "tailorbird.domain.errors"} - {ServiceError}
    assert set(TABLE) == own


@pytest.mark.parametrize("family", list(Family))
def test_a_body_keeps_its_family_s_shape(family):
    bare = error_body(InvalidRequest("Mend it."), family)["error"]
    full = error_body(InvalidRequest("Mend it.", param="seed", code="special"), family)["error"]
    if family is Family.OPENAI:
        assert bare == {"message": "Mend it.", "type": "invalid_request_error", "param": None, "code": None}
        assert full["code"] == "special"
    elif family is Family.AZURE:
        assert bare == {"code": "invalidPayload", "message": "Mend it.", "type": "invalid_request_error"}
        assert (full["code"], full["param"]) == ("special", "seed")
    else:
        assert bare == {"code": "InvalidRequest", "message": "Mend it."}
        assert full == {"code": "special", "message": "Mend it.", "target": "seed"}


@pytest.mark.parametrize(
    ("error", "azure", "openai", "arm"),
    [
        (PermissionDenied("no"), 401, 403, 403),
        (DeploymentNotFound("no"), 404, 404, 404),
        (InvalidToken("no"), 401, 401, 401),
        (InternalFailure("no"), 500, 500, 500),
    ],
)
def test_statuses_differ_where_the_vendors_do(error, azure, openai, arm):
    found = tuple(error_response(error, family).status_code for family in (Family.AZURE, Family.OPENAI, Family.ARM))
    assert found == (azure, openai, arm)


def test_a_subclass_nobody_listed_is_answered_as_its_parent():
    class Odd(Conflict):
        pass

    assert error_response(Odd("x"), Family.AZURE).status_code == 409


def test_a_conflict_is_not_to_be_repeated():
    assert error_response(Conflict("x"), Family.AZURE).headers["x-should-retry"] == "false"
    assert "x-should-retry" not in error_response(InvalidRequest("x"), Family.AZURE).headers


def test_waiting_times_come_in_milliseconds_and_whole_seconds():
    answer = error_response(TooManyRequests("wait", retry_after=1.25), Family.OPENAI)
    assert (answer.headers["retry-after-ms"], answer.headers["retry-after"]) == ("1250", "2")
    assert json.loads(bytes(answer.body))["error"]["code"] == "rate_limit_exceeded"
