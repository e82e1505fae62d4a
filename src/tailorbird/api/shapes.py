"""The shapes of answers, for the API's description; what a key holds and when it is there is decided by the renderers.

Azure's surfaces leave out what has no value and OpenAI's say null, so a field that may be without one is optional here.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)


class ListOf(BaseModel, Generic[T]):
    """A page; an empty one has no ids."""

    object: Literal["list"]
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    id: str
    object: str
    deleted: Literal[True]


class FileObject(BaseModel):
    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: str
    status_details: str | None = None


class UploadObject(BaseModel):
    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    expires_at: int
    file: FileObject | None = None


class UploadPartObject(BaseModel):
    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str
    azure_block_id: str | None = None


class JobError(BaseModel):
    code: str
    message: str
    param: str | None


class JobObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None = None
    estimated_finish: int | None = None
    model: str
    fine_tuned_model: str | None = None
    status: str
    training_file: str
    validation_file: str | None = None
    hyperparameters: dict[str, int | float | str]
    method: dict[str, Any] | None = None
    seed: int
    suffix: str | None = None
    trained_tokens: int | None = None
    result_files: list[str] | None = None
    error: JobError | None = None
    integrations: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None


class EventObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "warning", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None = None


class CheckpointObject(BaseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    step_number: int
    fine_tuning_job_id: str
    metrics: dict[str, float]


class CopyDetail(BaseModel):
    destinationResourceId: str  # noqa: N815
    region: str
    status: Literal["Completed", "Failed", "InProgress"]


class CopiesObject(BaseModel):
    checkpointedModelName: str  # noqa: N815
    fineTuningJobId: str  # noqa: N815
    copiedAccountDetails: list[CopyDetail]  # noqa: N815


class PermissionObject(BaseModel):
    id: str
    object: Literal["checkpoint.permission"]
    created_at: int
    project_id: str


class WandbKeyObject(BaseModel):
    object: Literal["fine_tuning.integration"]
    type: Literal["wandb"]
    has_key: bool


class ModelObject(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    created_at: int
    owned_by: str
    status: str
    lifecycle_status: str
    capabilities: dict[str, bool]
    deprecation: dict[str, int]
    model: str | None = None
    fine_tune: str | None = None


class ModelList(BaseModel):
    """All models are one page."""

    object: Literal["list"]
    data: list[ModelObject]
    has_more: Literal[False]


class UsageObject(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatObject(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[dict[str, Any]]
    usage: UsageObject


class StoredObject(ChatObject):
    metadata: dict[str, str]


class StoredMessageObject(BaseModel):
    id: str
    role: str
    content: str | None


class CompletionObject(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[dict[str, Any]]
    usage: UsageObject


class EmbeddingObject(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    object: Literal["list"]
    model: str
    data: list[EmbeddingObject]
    usage: EmbeddingUsage


class GradeObject(BaseModel):
    reward: float
    sub_rewards: dict[str, Any]
    model_grader_token_usage_per_model: dict[str, Any]
    metadata: dict[str, Any]


class GraderObject(BaseModel):
    grader: dict[str, Any]


class EvalObject(BaseModel):
    id: str
    object: Literal["eval"]
    name: str | None
    created_at: int
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]
    metadata: dict[str, str] | None


class DeletedEval(BaseModel):
    object: Literal["eval.deleted"]
    deleted: Literal[True]
    eval_id: str


class EvalRunObject(BaseModel):
    id: str
    object: Literal["eval.run"]
    eval_id: str
    name: str | None
    status: str
    model: str | None
    created_at: int
    report_url: str
    data_source: dict[str, Any]
    result_counts: dict[str, int]
    per_model_usage: list[dict[str, Any]]
    per_testing_criteria_results: list[dict[str, Any]]
    error: dict[str, Any] | None
    metadata: dict[str, str] | None


class DeletedRun(BaseModel):
    object: Literal["eval.run.deleted"]
    deleted: Literal[True]
    run_id: str


class OutputItemObject(BaseModel):
    id: str
    object: Literal["eval.run.output_item"]
    created_at: int
    eval_id: str
    run_id: str
    status: str
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[dict[str, Any]]
