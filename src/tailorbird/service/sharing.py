"""Checkpoints given to other accounts: Foundry's copies and OpenAI's permissions, both copies with their own life.

A copy needs a role on both accounts, or the key of the source within one subscription, as the documentation prints it.
OpenAI asks for an admin key; a token of an Owner is what that is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.domain.access import Account, Action, Principal
from tailorbird.domain.audit import Act
from tailorbird.domain.errors import InvalidRequest, NotFound, PermissionDenied, ServiceError
from tailorbird.domain.jobs import Checkpoint
from tailorbird.domain.sharing import CheckpointCopy, CheckpointPermission, CopyStatus
from tailorbird.service.access import Access
from tailorbird.service.audit import record
from tailorbird.service.copies import Copies
from tailorbird.service.models import Models
from tailorbird.service.ports import BlobMissing, Clock, Order, Page, Session, Store

log = logging.getLogger(__name__)

MAX_PROJECTS = 20
_RESOURCE_ID = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.CognitiveServices/accounts/(?P<account>[^/]+)/?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class CopiesOfCheckpoint:
    """A checkpoint with all the copies asked for so far."""

    checkpoint: Checkpoint
    copies: Sequence[CheckpointCopy]


class Sharing:
    def __init__(self, store: Store, access: Access, copies: Copies, models: Models, clock: Clock) -> None:
        self._store = store
        self._access = access
        self._copies = copies
        self._models = models
        self._clock = clock

    # --- copies -------------------------------------------------------------------------------------------------------

    def begin_copy(
        self, who: Principal, source: Account, job_id: str, reference: str, destination: str, region: str
    ) -> CheckpointCopy:
        """A copy in progress; whoever calls this has `finish_copy` do it. Asking again starts a failed one again.

        Raises NotFound, InvalidRequest naming the field, PermissionDenied."""
        target = self._destination(who, source, destination)
        if target.location.lower() != region.replace(" ", "").lower():
            raise InvalidRequest(
                f"The resource {destination} is in '{target.location}', not in '{region}'.", param="region"
            )
        with self._store.begin() as tx:
            checkpoint = _checkpoint(tx, source, job_id, reference)
            code = _digest(checkpoint.id, target.id)
            known = tx.sharing.copy(f"ftcopy-{code}")
            if known is not None and known.status is not CopyStatus.FAILED:
                return known
            begun = CheckpointCopy(
                id=f"ftcopy-{code}",
                job_id=job_id,
                checkpoint_id=checkpoint.id,
                account_id=source.id,
                destination=destination,
                destination_id=target.id,
                region=region,
                status=CopyStatus.IN_PROGRESS,
                created_at=self._clock.now() if known is None else known.created_at,
            )
            tx.sharing.put_copy(begun)
            record(tx, self._clock.now(), Act.COPY_CHECKPOINT, _resource(source, checkpoint), f"to {destination}")
        return begun

    def finish_copy(self, begun: CheckpointCopy) -> CheckpointCopy:
        """Takes as long as the bytes take. A failure is the copy's status, with its reason."""
        with self._store.begin() as tx:
            source, target = tx.accounts.get(begun.account_id), tx.accounts.get(begun.destination_id)
        failure: str | None = None
        try:
            if source is None or target is None:
                failure = "One of the two resources is gone."
            else:
                self._copies.copy_checkpoint(source, begun.checkpoint_id, target)
        except ServiceError as error:
            failure = error.message
        except BlobMissing:
            failure = "The checkpoint's weights are not in the blob store any more."
        status = CopyStatus.COMPLETED if failure is None else CopyStatus.FAILED
        done = dataclasses.replace(begun, status=status, failure=failure)
        with self._store.begin() as tx:
            tx.sharing.put_copy(done)
        if failure is not None:
            log.warning("checkpoint not copied", extra={"copy": done.id, "reason": failure})
        return done

    def copies_of(self, source: Account, job_id: str, reference: str) -> CopiesOfCheckpoint:
        """Raises NotFound."""
        with self._store.begin() as tx:
            checkpoint = _checkpoint(tx, source, job_id, reference)
            return CopiesOfCheckpoint(checkpoint, tx.sharing.copies(source.id, checkpoint.id))

    def resume_unfinished(self) -> None:
        """Finishes what an earlier server process began; called once at start."""
        with self._store.begin() as tx:
            unfinished = tx.sharing.unfinished_copies()
        for copy in unfinished:
            self.finish_copy(copy)

    # --- permissions --------------------------------------------------------------------------------------------------

    def grant(
        self, who: Principal, source: Account, reference: str, projects: Sequence[str]
    ) -> list[CheckpointPermission]:
        """Gives each project (another account, by name or id) the checkpoint. Granting twice is granting once.

        Raises NotFound, InvalidRequest naming the project, PermissionDenied; nothing is granted then."""
        self._administers(who, source)
        if not 1 <= len(projects) <= MAX_PROJECTS:
            raise InvalidRequest(f"'project_ids' must name 1 to {MAX_PROJECTS} projects.", param="project_ids")
        with self._store.begin() as tx:
            checkpoint = _checkpoint(tx, source, None, reference)
            known = tx.accounts.list()
        targets = [self._project(who, known, project) for project in projects]
        granted: list[CheckpointPermission] = []
        for target in targets:
            copy = self._copies.copy_checkpoint(source, checkpoint.id, target)
            permission = CheckpointPermission(
                id=f"cp_{_digest(checkpoint.id, target.id)}",
                account_id=source.id,
                checkpoint_id=checkpoint.id,
                project_id=target.name,
                copied_model=copy.model.name,
                created_at=self._clock.now(),
            )
            with self._store.begin() as tx:
                before = tx.sharing.permission(source.id, permission.id)
                if before is None:
                    tx.sharing.add_permission(permission)
                    shared = f"with {target.name}"
                    record(tx, permission.created_at, Act.SHARE_CHECKPOINT, _resource(source, checkpoint), shared)
            granted.append(before or permission)
        return granted

    def permissions(
        self,
        who: Principal,
        source: Account,
        reference: str,
        *,
        project_id: str | None,
        after: str | None,
        limit: int,
        order: Order,
    ) -> Page[CheckpointPermission]:
        """Raises NotFound, PermissionDenied."""
        self._administers(who, source)
        with self._store.begin() as tx:
            checkpoint = _checkpoint(tx, source, None, reference)
            return tx.sharing.permissions(
                source.id, checkpoint.id, project_id=project_id, after=after, limit=limit, order=order
            )

    def revoke(self, who: Principal, source: Account, reference: str, permission_id: str) -> None:
        """Takes the project's copy away. Raises NotFound, PermissionDenied, Conflict while the project serves it."""
        self._administers(who, source)
        with self._store.begin() as tx:
            checkpoint = _checkpoint(tx, source, None, reference)
            permission = tx.sharing.permission(source.id, permission_id)
            if permission is None or permission.checkpoint_id != checkpoint.id:
                raise NotFound(f"There is no permission {permission_id!r} for {reference}.", param="permission_id")
            target = next((a for a in tx.accounts.list() if a.name == permission.project_id), None)
            has_copy = target is not None and tx.models.find(target.id, permission.copied_model) is not None
        if target is not None and has_copy:
            self._models.delete(target.id, permission.copied_model)
        with self._store.begin() as tx:
            if tx.sharing.delete_permission(source.id, permission_id):
                shared = f"with {permission.project_id}"
                record(tx, self._clock.now(), Act.UNSHARE_CHECKPOINT, _resource(source, checkpoint), shared)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _administers(self, who: Principal, source: Account) -> None:
        if who.key_account is not None:
            raise PermissionDenied(
                "Permissions of checkpoints need an admin: send a token of a principal with the role Owner as the "
                "Bearer value; a key opens one resource only."
            )
        self._access.authorize(who, Action.WRITE_ROLE, source)

    def _project(self, who: Principal, known: Sequence[Account], project: str) -> Account:
        named = [a for a in known if project.lower() in (a.name.lower(), a.id)]
        allowed = [a for a in named if self._may_write(who, a)]
        if not allowed:
            raise InvalidRequest(
                f"There is no project '{project}' that you may give models to. A project is another resource of this "
                "installation, by its name.",
                param="project_ids",
            )
        return allowed[0]

    def _may_write(self, who: Principal, account: Account) -> bool:
        try:
            self._access.authorize(who, Action.WRITE_DEPLOYMENT, account)
        except PermissionDenied:
            return False
        return True

    def _destination(self, who: Principal, source: Account, resource_id: str) -> Account:
        match = _RESOURCE_ID.fullmatch(resource_id)
        if match is None:
            raise InvalidRequest(
                f"'{resource_id}' is no resource id such as /subscriptions/…/resourceGroups/…/providers/"
                "Microsoft.CognitiveServices/accounts/….",
                param="destinationResourceId",
            )
        if who.key_account is not None:
            if match["subscription"].lower() != source.subscription_id.lower():
                raise PermissionDenied(
                    "A key copies within its resource's subscription only. Copying to another needs a Bearer token of "
                    "a principal with rights on both resources."
                )
            return self._access.account(match["subscription"], match["group"], match["account"])
        return self._access.open(who, Action.WRITE_DEPLOYMENT, match["subscription"], match["group"], match["account"])


def _resource(source: Account, checkpoint: Checkpoint) -> str:
    return f"{source.resource_id}/checkpoints/{checkpoint.id}"


def _checkpoint(tx: Session, source: Account, job_id: str | None, reference: str) -> Checkpoint:
    found = tx.jobs.find_checkpoint(source.id, reference)
    if found is None or job_id not in (None, found.job_id):
        raise NotFound(f"The checkpoint {reference!r} does not exist in this resource.", param="checkpoint")
    return found


def _digest(checkpoint_id: str, account_id: str) -> str:
    return hashlib.sha256(f"{checkpoint_id}/{account_id}".encode()).hexdigest()[:32]
