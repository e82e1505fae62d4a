"""Role assignments: who holds which role where, and who may change that."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

from tailorbird.domain.access import Action, Grant, Principal, PrincipalKind, Role, covers, role_named
from tailorbird.domain.errors import Conflict, InvalidRequest, NotFound
from tailorbird.service.audit import record
from tailorbird.service.ports import AlreadyThere, Clock, Store

_AT_SCOPE = re.compile(r"atScope\(\)", re.IGNORECASE)
_HOLDER = re.compile(r"(?:principalId\s+eq\s+'([^']*)'|assignedTo\('([^']*)'\))", re.IGNORECASE)
_NAME = re.compile(r"roleName\s+eq\s+'([^']*)'", re.IGNORECASE)
_TYPE = re.compile(r"type\s+eq\s+'([^']*)'", re.IGNORECASE)


class Roles:
    def __init__(self, store: Store, clock: Clock, new_hex: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._new_hex = new_hex

    def assign(
        self,
        object_id: str,
        role: str,
        scope: str,
        *,
        by: str,
        kind: PrincipalKind = PrincipalKind.SERVICE_PRINCIPAL,
        grant_id: str | None = None,
        description: str = "",
    ) -> tuple[Grant, bool]:
        """The assignment, and whether it is new: the same one under the same id again is fine.

        `role` is a name or the id of a definition. Raises InvalidRequest, Conflict when the holder has the role at the
        scope already, or the id is another assignment's."""
        chosen = role_named(role.rsplit("/", 1)[-1])
        if chosen is None:
            raise InvalidRequest(
                f"The specified role definition '{role}' does not exist; there are {', '.join(Role)}.",
                param="roleDefinitionId",
                code="RoleDefinitionDoesNotExist",
            )
        name = (grant_id or str(uuid.UUID(hex=self._new_hex(), version=4))).lower()
        grant = Grant(name, object_id, chosen, scope.rstrip("/") or "/", kind, self._clock.now(), by, description)
        try:
            with self._store.begin() as tx:
                if tx.identities.add_grant(grant):
                    held = f"{grant.role} to {grant.object_id}"
                    record(tx, grant.created_at, Action.WRITE_ROLE, _resource(grant), held)
                    return grant, True
        except AlreadyThere:
            with self._store.begin() as tx:
                known = tx.identities.grant(name)
            if known is not None and _same(known, grant):
                return known, False
            raise Conflict(
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated. Delete the role "
                "assignment, or use another id.",
                code="RoleAssignmentUpdateNotPermitted",
            ) from None
        raise Conflict("The role assignment already exists.", code="RoleAssignmentExists")

    def get(self, scope: str, grant_id: str) -> Grant:
        """Raises NotFound."""
        with self._store.begin() as tx:
            grant = tx.identities.grant(grant_id.lower())
        if grant is None or not (covers(grant.scope, scope) and covers(scope, grant.scope)):
            raise NotFound(f"The role assignment '{grant_id}' is not found.", code="RoleAssignmentNotFound")
        return grant

    def remove(self, scope: str, grant_id: str) -> Grant | None:
        """What was removed; None when there was nothing."""
        with self._store.begin() as tx:
            grant = tx.identities.grant(grant_id.lower())
            if grant is None or not (covers(grant.scope, scope) and covers(scope, grant.scope)):
                return None
            tx.identities.delete_grant(grant.id)
            held = f"{grant.role} from {grant.object_id}"
            record(tx, self._clock.now(), Action.DELETE_ROLE, _resource(grant), held)
        return grant

    def list(self, scope: str = "/", condition: str = "") -> list[Grant]:
        """Assignments at the scope, above and below it. `condition` is ARM's $filter: atScope() leaves out those below,
        principalId eq '…' and assignedTo('…') those of others. Raises InvalidRequest for another one."""
        holder, only_at = _read(condition)
        with self._store.begin() as tx:
            grants = tx.identities.grants(holder)
        return [g for g in grants if covers(g.scope, scope) or (not only_at and covers(scope, g.scope))]

    def definitions(self, condition: str = "") -> list[Role]:
        """The roles there are; of `condition` (ARM's $filter) roleName eq '…' and type eq 'BuiltInRole' choose."""
        roles = list(Role)
        for part in _parts(condition):
            if found := _NAME.fullmatch(part):
                wanted = role_named(found[1])
                roles = [role for role in roles if role is wanted]
            elif found := _TYPE.fullmatch(part):
                roles = roles if found[1].lower() == "builtinrole" else []
            elif part.lower() not in ("atscopeandbelow()", "atscope()"):
                raise _unknown(part)
        return roles


def role_actions(principal: Principal, action: Action, scope: str) -> str:
    """ARM's sentence for a missing right."""
    return (
        f"The client '{principal.name}' with object id '{principal.id}' does not have authorization to perform "
        f"action '{action}' over scope '{scope}'. Ask for a role that allows it; a role granted "
        "a moment ago needs a new token."
    )


def _resource(grant: Grant) -> str:
    return f"{grant.scope.rstrip('/')}/providers/Microsoft.Authorization/roleAssignments/{grant.id}"


def _same(known: Grant, asked: Grant) -> bool:
    same_scope = covers(known.scope, asked.scope) and covers(asked.scope, known.scope)
    return same_scope and (known.object_id, known.role) == (asked.object_id, asked.role)


def _read(condition: str) -> tuple[str | None, bool]:
    holder, only_at = None, False
    for part in _parts(condition):
        if _AT_SCOPE.fullmatch(part):
            only_at = True
        elif found := _HOLDER.fullmatch(part):
            holder = found[1] or found[2]
        else:
            raise _unknown(part)
    return holder, only_at


def _parts(condition: str) -> list[str]:
    return [part.strip() for part in re.split(r"\s+and\s+", condition.strip(), flags=re.IGNORECASE) if part.strip()]


def _unknown(part: str) -> InvalidRequest:
    return InvalidRequest(f"The filter '{part}' is not supported.", param="$filter")
