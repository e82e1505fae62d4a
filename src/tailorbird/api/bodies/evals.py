"""Bodies of evaluations and graders; what graders and data sources hold is read by the services."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tailorbird.api.bodies import Body, Metadata

Name = Annotated[str, Field(min_length=1, max_length=256)]


class CreateEvalBody(Body):
    name: Name | None = None
    metadata: Metadata | None = None
    data_source_config: Any
    testing_criteria: Any


class UpdateEvalBody(Body):
    name: Name | None = None
    metadata: Metadata | None = None


class CreateRunBody(Body):
    name: Name | None = None
    metadata: Metadata | None = None
    data_source: dict[str, Any]


class RunGraderBody(Body):
    grader: Any
    model_sample: str
    item: dict[str, Any] | None = None
    # The field's name before it became `item` (alpha of April 2025); the SDK of that time sends it.
    reference_answer: Any = None


class ValidateGraderBody(Body):
    grader: Any
