"""Who may do what: the first installation, keys, logins, tokens, and the accounts a caller may use.

Tokens are RS256 JWTs in the claims of Microsoft Entra ID; texts and codes of refusals (AADSTS numbers) follow
https://learn.microsoft.com/entra/identity-platform/reference-error-codes in our own words.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tailorbird.domain.access import Account, Action, Assignment, Principal, Role, ServicePrincipal, allows
from tailorbird.domain.errors import InvalidRequest, InvalidToken, NotFound, PermissionDenied, Unauthenticated
from tailorbird.service.ports import AlreadyThere, Clock, Session, Store

FIRST_NAME = "local"
"""Resource group, account and location of a new installation."""

_AUDIENCES = frozenset(
    {
        "https://management.azure.com",
        "https://management.core.windows.net",
        "https://cognitiveservices.azure.com",
        "https://ai.azure.com",
    }
)
_INVALID_TOKEN = (
    "Unauthorized. Access token is missing, invalid, audience is incorrect "
    "(https://cognitiveservices.azure.com), or have expired."
)
_SIGNING_KEY = "token-signing-key"
_TENANT = "tenant-id"
_FIRST_APP = "first-app-id"
_FIRST_OBJECT = "first-object-id"
_FIRST_SUBSCRIPTION = "first-subscription-id"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client needs to reach a new installation. `client_secret` is known only in the call that created it."""

    account: Account
    tenant_id: str
    client_id: str
    client_secret: str | None


@dataclass(frozen=True, slots=True)
class Token:
    """A signed token for `audience`, valid for `expires_in` seconds from `issued_at`."""

    access_token: str
    audience: str
    issued_at: datetime
    expires_in: int


@dataclass(frozen=True, slots=True)
class _SigningKey:
    private: rsa.RSAPrivateKey
    jwk: dict[str, str]


class Access:
    def __init__(
        self, store: Store, clock: Clock, new_hex: Callable[[], str], token_lifetime_seconds: int = 3600
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_hex = new_hex
        self._lifetime = token_lifetime_seconds
        self._signing: _SigningKey | None = None
        self._tenant: str | None = None

    # --- the installation ---------------------------------------------------------------------------------------------

    def first_run(self) -> Credentials:
        """Creates what is missing: subscription, account with two keys, service principal (Owner). Safe to repeat."""
        try:
            return self._first_run()
        except AlreadyThere:
            # Another process created it between our look and our write; now it is there to be read.
            return self._first_run()

    def reset_secret(self, app_id: str) -> str:
        """A new secret for this application; the old one stops working. Raises NotFound."""
        secret = self._new_secret()
        with self._store.begin() as tx:
            principal = tx.accounts.service_principal(app_id)
            if principal is None:
                raise NotFound(f"There is no application with the id {app_id!r}.")
            # Under the next free number; whoever resets at the same moment gets the one after it, and counts.
            number = _resets(tx, principal)[0] + 1
            while tx.accounts.add_secret(_reset_name(app_id, number), _digest(secret)) != _digest(secret):
                number += 1
        return secret

    @property
    def tenant_id(self) -> str:
        """The one tenant of this installation."""
        if self._tenant is None:
            with self._store.begin() as tx:
                self._tenant = tx.accounts.add_secret(_TENANT, self._new_uuid())
        return self._tenant

    # --- who asks -----------------------------------------------------------------------------------------------------

    def by_key(self, key: str) -> tuple[Principal, Account] | None:
        """Whose key this is; None when nobody's."""
        with self._store.begin() as tx:
            account = tx.accounts.by_key(key)
        if account is None:
            return None
        # The database compared with an index; compare once more without a shortcut that time would betray.
        given = key.encode()
        first, second = (hmac.compare_digest(given, known.encode()) for known in (account.key1, account.key2))
        if not (first or second):
            return None
        name = "Key1" if first else "Key2"
        return Principal(id=f"{account.id}/{name}", name=f"{account.name} {name}", key_account=account.id), account

    def login(self, client_id: str, client_secret: str, scopes: Sequence[str], *, authority: str) -> Token:
        """The client credentials grant. `scopes` are `<audience>/.default`; `authority` is our control plane's URL,
        itself an audience and part of the issuer.

        Raises Unauthenticated or InvalidRequest whose `code` is OAuth's error word.
        """
        audience = _audience(scopes, authority)
        with self._store.begin() as tx:
            principal = tx.accounts.service_principal(client_id)
            digest = "" if principal is None else _resets(tx, principal)[1]
        if principal is None:
            raise InvalidRequest(
                f"AADSTS700016: There is no application with the identifier '{client_id}' in the tenant "
                f"'{self.tenant_id}'. Check the client id, and that the request went to the right tenant.",
                param="client_id",
                code="unauthorized_client",
            )
        if not hmac.compare_digest(digest, _digest(client_secret)):
            raise Unauthenticated(
                f"AADSTS7000215: The client secret given for application '{client_id}' is not valid. "
                "Send the secret itself, not its id.",
                param="client_secret",
                code="invalid_client",
            )
        now = self._clock.now()
        return Token(self._sign(principal, audience, authority, now), audience, now, self._lifetime)

    def by_token(self, token: str) -> Principal:
        """Raises InvalidToken when it is not ours, damaged, expired, or its application is gone."""
        claims = self._claims(token)
        with self._store.begin() as tx:
            principal = tx.accounts.service_principal(str(claims["appid"]))
        if principal is None or principal.object_id != claims["oid"]:
            raise InvalidToken(_INVALID_TOKEN)
        return Principal(id=principal.object_id, name=principal.name, assignments=principal.assignments)

    def public_jwks(self) -> dict[str, list[dict[str, str]]]:
        """The key set outsiders verify our tokens with (RFC 7517)."""
        return {"keys": [self._key().jwk]}

    # --- what they may do ---------------------------------------------------------------------------------------------

    def authorize(self, principal: Principal, action: Action, account: Account) -> None:
        """Raises PermissionDenied in the words of the plane the action belongs to."""
        if allows(principal, action, account):
            return
        if "/accounts/OpenAI/" in action:
            raise PermissionDenied("Principal does not have access to API/Operation.")
        raise PermissionDenied(
            f"The client '{principal.name}' with object id '{principal.id}' does not have authorization to perform "
            f"action '{action}' over scope '{account.resource_id}'. Ask for a role that allows it; a role granted "
            "a moment ago needs a new token.",
        )

    def default_account(self, principal: Principal, wanted: str | None = None) -> Account:
        """The account a data-plane caller means: a key's own, the one named `wanted`, or the first it may use.

        Raises PermissionDenied when there is none."""
        with self._store.begin() as tx:
            known = tx.accounts.list()
        for account in known:
            named = wanted is None or account.name.lower() == wanted.lower()
            if named and _may_use(principal, account):
                return account
        raise PermissionDenied("Principal does not have access to API/Operation.")

    def account(self, subscription_id: str, resource_group: str, name: str) -> Account:
        """Case-insensitive. Raises NotFound."""
        with self._store.begin() as tx:
            account = tx.accounts.by_name(subscription_id, resource_group, name)
        if account is None:
            raise NotFound(
                f"The Resource 'Microsoft.CognitiveServices/accounts/{name}' under resource group '{resource_group}' "
                "was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
                code="ResourceNotFound",
            )
        return account

    def open(
        self, principal: Principal, action: Action, subscription_id: str, resource_group: str, name: str
    ) -> Account:
        """The account, for somebody who may do `action` on it. Raises PermissionDenied, NotFound.

        Who may not look learns nothing of what is there: permission is asked for before existence, as ARM does.
        """
        ghost = Account("", subscription_id, resource_group, name, "", "", "", "", datetime.min.replace(tzinfo=UTC))
        self.authorize(principal, action, ghost)
        return self.account(subscription_id, resource_group, name)

    def accounts(
        self, principal: Principal, subscription_id: str | None = None, resource_group: str | None = None
    ) -> list[Account]:
        """The accounts the caller may see."""
        with self._store.begin() as tx:
            known = tx.accounts.list()
        return [
            account
            for account in known
            if allows(principal, Action.READ_ACCOUNT, account)
            and (subscription_id is None or account.subscription_id.lower() == subscription_id.lower())
            and (resource_group is None or account.resource_group.lower() == resource_group.lower())
        ]

    def subscriptions(self, principal: Principal) -> list[str]:
        """Ids of the subscriptions that hold an account the caller may see."""
        return list(dict.fromkeys(account.subscription_id for account in self.accounts(principal)))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _first_run(self) -> Credentials:
        tenant, secret = self.tenant_id, None
        with self._store.begin() as tx:
            subscription = tx.accounts.add_secret(_FIRST_SUBSCRIPTION, self._new_uuid())
            account = tx.accounts.by_name(subscription, FIRST_NAME, FIRST_NAME)
            if account is None:
                account = self._new_account(subscription)
                tx.accounts.add(account)
            app_id = tx.accounts.add_secret(_FIRST_APP, self._new_uuid())
            if tx.accounts.service_principal(app_id) is None:
                secret = self._new_secret()
                object_id = tx.accounts.add_secret(_FIRST_OBJECT, self._new_uuid())
                scope = Assignment(Role.OWNER, f"/subscriptions/{subscription}")
                tx.accounts.add_service_principal(
                    ServicePrincipal(app_id, object_id, "tailorbird-local", _digest(secret))
                )
                tx.accounts.add_assignment(object_id, scope)
        return Credentials(account, tenant, app_id, secret)

    def _new_account(self, subscription: str) -> Account:
        return Account(
            id=self._new_hex(),
            subscription_id=subscription,
            resource_group=FIRST_NAME,
            name=FIRST_NAME,
            location=FIRST_NAME,
            kind="OpenAI",
            key1=self._new_hex(),
            key2=self._new_hex(),
            created_at=self._clock.now(),
        )

    def _new_uuid(self) -> str:
        return str(uuid.UUID(hex=self._new_hex(), version=4))

    def _new_secret(self) -> str:
        # 40 characters, as Entra's generated secrets have; two draws, because one is 32.
        return (self._new_hex() + self._new_hex())[:40]

    def _sign(self, principal: ServicePrincipal, audience: str, authority: str, now: datetime) -> str:
        key, at = self._key(), int(now.timestamp())
        claims = {
            "aud": audience,
            "iss": f"{authority.rstrip('/')}/{self.tenant_id}/",
            "iat": at,
            "nbf": at,
            "exp": at + self._lifetime,
            "appid": principal.app_id,
            "appidacr": "1",
            "idtyp": "app",
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": self.tenant_id,
            "uti": self._new_hex(),
            "ver": "1.0",
        }
        return jwt.encode(claims, key.private, algorithm="RS256", headers={"kid": key.jwk["kid"]})

    def _claims(self, token: str) -> dict[str, object]:
        try:
            claims: dict[str, object] = jwt.decode(
                token,
                self._key().private.public_key(),
                algorithms=["RS256"],
                options={
                    "require": ["aud", "iss", "exp", "nbf", "appid", "oid", "tid"],
                    # Time is our clock's, and a token has one audience out of several: both are judged below.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except jwt.InvalidTokenError:
            raise InvalidToken(_INVALID_TOKEN) from None
        now = self._clock.now().timestamp()
        begin, end, audience, issuer = (claims[name] for name in ("nbf", "exp", "aud", "iss"))
        in_time = isinstance(begin, int) and isinstance(end, int) and begin <= now < end
        authority = str(issuer).removesuffix(f"/{self.tenant_id}/")
        if not in_time or claims["tid"] != self.tenant_id or not _is_audience(str(audience), authority):
            raise InvalidToken(_INVALID_TOKEN)
        return claims

    def _key(self) -> _SigningKey:
        if self._signing is None:
            with self._store.begin() as tx:
                pem = tx.accounts.secret(_SIGNING_KEY)
            if pem is None:
                made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
                text = made.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
                with self._store.begin() as tx:
                    # Whoever was first: every server of the installation signs with the same key.
                    pem = tx.accounts.add_secret(_SIGNING_KEY, text.decode())
            private = serialization.load_pem_private_key(pem.encode(), password=None)
            if not isinstance(private, rsa.RSAPrivateKey):
                raise TypeError("the token signing key in the database is not an RSA key")
            self._signing = _SigningKey(private, _jwk(private.public_key()))
        return self._signing


def _reset_name(app_id: str, number: int) -> str:
    return f"client-secret-digest/{app_id}/{number}"


def _resets(tx: Session, principal: ServicePrincipal) -> tuple[int, str]:
    """How often the secret was reset, and the digest of the one that counts: the last."""
    number, digest = 0, principal.secret_digest
    while (newer := tx.accounts.secret(_reset_name(principal.app_id, number + 1))) is not None:
        number, digest = number + 1, newer
    return number, digest


def _may_use(principal: Principal, account: Account) -> bool:
    return principal.key_account == account.id or allows(principal, Action.READ_ACCOUNT, account)


def _digest(secret: str) -> str:
    # A secret is 160 random bits: a plain hash cannot be turned back, a slow one would protect nothing more.
    return hashlib.sha256(secret.encode()).hexdigest()


def _audience(scopes: Sequence[str], authority: str) -> str:
    asked = [scope for scope in scopes if scope not in {"openid", "profile", "offline_access"}]
    if len(asked) != 1 or not asked[0].endswith("/.default"):
        raise InvalidRequest(
            f"AADSTS70011: The scope '{' '.join(scopes)}' is not valid. Ask for exactly one, of the form "
            "https://cognitiveservices.azure.com/.default.",
            param="scope",
            code="invalid_scope",
        )
    audience = asked[0].removesuffix("/.default")
    if not _is_audience(audience, authority):
        raise InvalidRequest(
            f"AADSTS500011: The resource principal named '{audience}' was not found. Tokens are issued for "
            f"{', '.join([authority, *sorted(_AUDIENCES)])}.",
            param="scope",
            code="invalid_resource",
        )
    return audience


def _is_audience(audience: str, authority: str) -> bool:
    # Clients ask with and without a trailing slash, az for `https://host//.default`; URLs of hosts ignore case.
    plain = audience.rstrip("/").lower()
    return plain in _AUDIENCES or plain == authority.rstrip("/").lower()


def _jwk(public: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = public.public_numbers()
    required = {"e": _base64url(numbers.e), "kty": "RSA", "n": _base64url(numbers.n)}
    # The key id is its thumbprint (RFC 7638): the digest of the required members, sorted, without spaces.
    thumbprint = hashlib.sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).digest()
    kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
    return {**required, "use": "sig", "alg": "RS256", "kid": kid}


def _base64url(number: int) -> str:
    size = (number.bit_length() + 7) // 8
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()
