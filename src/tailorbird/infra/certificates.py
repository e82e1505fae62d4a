"""A local certificate authority and the control plane's server certificate, made on first use and renewed in time.

ARM clients insist on https and on a certificate they can verify. Python 3.13 verifies with VERIFY_X509_STRICT: an
authority needs critical basicConstraints and keyUsage and a subjectKeyIdentifier, a server certificate an
authorityKeyIdentifier.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_LIFETIME = timedelta(days=3650)
# The longest life Apple's and Chromium's verifiers accept for a certificate of a private authority.
_SERVER_LIFETIME = timedelta(days=825)
_RENEW_BEFORE = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=5)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. `bundle` is our authority and the machine's public roots, so that a client that is told to trust it
    (REQUESTS_CA_BUNDLE) can still reach the rest of the world."""

    ca: Path
    cert: Path
    key: Path
    bundle: Path


@dataclass(frozen=True, slots=True)
class _Issued:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure_certificates(folder: Path, host: str, now: datetime | None = None) -> Certificates:
    """Creates what is missing and renews what has less than 30 days left or was made for another host.

    `host` is a DNS name or an IP address; loopback names are always covered. Private keys are readable by the owner
    only. Raises ValueError when `host` is no host name.
    """
    moment = datetime.now(UTC) if now is None else now
    names = _names(host)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key", folder / "bundle.pem")
    ca_key = folder / "ca.key"
    with _locked(folder):
        authority = _load(files.ca, ca_key)
        if authority is None or not _fresh(authority.certificate, moment):
            authority = _issue_authority(moment)
            _write_pair(authority, files.ca, ca_key)
        server = _load(files.cert, files.key)
        if server is None or not _serves(server.certificate, authority.certificate, names, moment):
            _write_pair(_issue_server(authority, names, moment), files.cert, files.key)
        bundle = files.ca.read_bytes() + b"\n" + _public_roots()
        if not files.bundle.exists() or files.bundle.read_bytes() != bundle:
            _write(files.bundle, bundle, 0o644)
    return files


def _names(host: str) -> list[x509.GeneralName]:
    return [_general_name(name) for name in dict.fromkeys([host, *_LOOPBACK])]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not name or any(c.isspace() or c in "/:@" for c in name):
        raise ValueError(f"{name!r} is not a host name")
    return x509.DNSName(name.encode("idna").decode())


def _issue_authority(now: datetime) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Tailorbird local authority {now:%Y-%m-%d}")])
    certificate = (
        _builder(name, name, key.public_key(), now, _AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Issued(certificate, key)


def _issue_server(authority: _Issued, names: list[x509.GeneralName], now: datetime) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    lifetime = min(_SERVER_LIFETIME, issuer.not_valid_after_utc - now)
    certificate = (
        _builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tailorbird control plane")]),
            issuer.subject,
            key.public_key(),
            now,
            lifetime,
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return _Issued(certificate, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _fresh(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _RENEW_BEFORE


def _serves(
    certificate: x509.Certificate, authority: x509.Certificate, names: list[x509.GeneralName], now: datetime
) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return list(covered) == names and _fresh(certificate, now)


def _load(certificate: Path, key: Path) -> _Issued | None:
    """None when a file is missing or damaged, or when the two do not belong together (a crash between two writes)."""
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != loaded.public_key():
        return None
    return _Issued(loaded, private)


def _write_pair(issued: _Issued, certificate: Path, key: Path) -> None:
    pem = issued.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, pem, 0o600)
    _write(certificate, issued.certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    # Through a new file, so that a reader sees the old or the new one and a key is never readable by others.
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)
    part.replace(path)


def _public_roots() -> bytes:
    # The machine's own store first: it may hold the roots of a company's proxy, which certifi lacks.
    system = ssl.get_default_verify_paths().cafile
    return Path(system or certifi.where()).read_bytes()


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
