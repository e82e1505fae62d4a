"""ServiceError and its tree: one class per thing a caller can do something about.

    ServiceError
     ├─ InvalidRequest            mend the request; `param` names the field
     │   ├─ ContentFiltered       ask for something harmless
     │   └─ PayloadTooLarge       send less
     │       └─ FileTooLarge      split the file
     ├─ NotFound                  name something that exists
     │   ├─ ModelNotFound
     │   └─ DeploymentNotFound
     ├─ Unauthenticated           bring a valid key
     │   └─ InvalidToken          bring a valid token
     ├─ PermissionDenied          ask for a role
     ├─ IllegalState              wait, or act on something in another state
     ├─ Conflict                  remove what is in the way
     ├─ PreconditionFailed        look again, then decide anew
     ├─ QuotaExceeded             delete something, or ask for more
     ├─ TooManyRequests           wait `retry_after` seconds
     ├─ Unavailable               try again; a part of the service is down
     └─ InternalFailure           report it; nothing the caller can mend

Each dialect renders these through one table (`api/errors.py`); nothing else decides a status code.
"""

from __future__ import annotations

from tailorbird.domain.safety import Filtered


class ServiceError(Exception):
    """`message` is for the customer: what is wrong, where, the remedy. `code` refines it where a dialect has one."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class InvalidRequest(ServiceError):
    pass


class ContentFiltered(InvalidRequest):
    """`filtered` says which categories the prompt falls into."""

    def __init__(self, message: str, filtered: Filtered) -> None:
        super().__init__(message, param="prompt", code="content_filter")
        self.filtered = filtered


class PayloadTooLarge(InvalidRequest):
    pass


class FileTooLarge(PayloadTooLarge):
    pass


class NotFound(ServiceError):
    pass


class ModelNotFound(NotFound):
    pass


class DeploymentNotFound(NotFound):
    pass


class Unauthenticated(ServiceError):
    pass


class InvalidToken(Unauthenticated):
    pass


class PermissionDenied(ServiceError):
    pass


class IllegalState(ServiceError):
    pass


class Conflict(ServiceError):
    pass


class PreconditionFailed(ServiceError):
    pass


class QuotaExceeded(ServiceError):
    pass


class TooManyRequests(ServiceError):
    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(ServiceError):
    pass


class InternalFailure(ServiceError):
    pass
