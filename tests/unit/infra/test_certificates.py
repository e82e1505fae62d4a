"""The local authority and its server certificate, judged by TLS with the strict flag of Python 3.13."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tailorbird.infra.certificates import Certificates, ensure_certificates

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def handshake(files: Certificates, server_hostname: str, trust: Path) -> None:
    """A TLS handshake over a socket pair; raises what the client raises."""
    server_side, client_side = socket.socketpair()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.cert, files.key)
    client_context = ssl.create_default_context(cafile=str(trust))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT

    def serve() -> None:
        try:
            with server_context.wrap_socket(server_side, server_side=True) as tls:
                tls.recv(1)
        except (ssl.SSLError, OSError):
            server_side.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(client_side, server_hostname=server_hostname) as tls:
            tls.send(b"x")
    finally:
        client_side.close()
        thread.join()


@pytest.mark.parametrize("name", ["tailorbird.example", "localhost", "127.0.0.1", "::1"])
def test_a_strict_client_that_trusts_the_authority_accepts_every_name(tmp_path: Path, name: str) -> None:
    files = ensure_certificates(tmp_path, "tailorbird.example")
    handshake(files, name, files.ca)
    handshake(files, name, files.bundle)


def test_a_host_that_is_an_ip_address_is_accepted_as_one(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, "10.1.2.3")
    handshake(files, "10.1.2.3", files.ca)


def test_a_name_the_certificate_was_not_made_for_is_refused(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(files, "other.example", files.ca)


def test_a_client_that_does_not_know_the_authority_refuses(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path / "ours", "localhost")
    stranger = ensure_certificates(tmp_path / "theirs", "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, "localhost", stranger.ca)


def test_extensions_and_their_criticality_satisfy_strict_verifiers(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, "localhost", NOW)
    ca, server = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (files.ca, files.cert))
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    ski = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    aki = server.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == ski.digest
    purposes = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    assert server.not_valid_after_utc - NOW == timedelta(days=825)


def test_private_keys_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, "localhost")
    keys = sorted(tmp_path.glob("*.key"))
    assert [key.name for key in keys] == ["ca.key", "server.key"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_the_bundle_holds_the_authority_and_public_roots(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, "localhost")
    bundle = files.bundle.read_bytes()
    assert bundle.startswith(files.ca.read_bytes())
    assert bundle.count(b"BEGIN CERTIFICATE") > 50


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, "localhost")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.glob("*.*") if path.suffix}
    ensure_certificates(tmp_path, "localhost")
    assert before == {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.glob("*.*") if path.suffix
    }


def test_another_host_gets_a_new_server_certificate_of_the_same_authority(tmp_path: Path) -> None:
    first = ensure_certificates(tmp_path, "localhost")
    ca, cert = first.ca.read_bytes(), first.cert.read_bytes()
    second = ensure_certificates(tmp_path, "new.example")
    assert second.ca.read_bytes() == ca
    assert second.cert.read_bytes() != cert
    handshake(second, "new.example", second.ca)


@pytest.mark.parametrize(("days", "renewed"), [(794, False), (796, True), (900, True)])
def test_the_server_certificate_is_renewed_in_its_last_thirty_days(tmp_path: Path, days: int, renewed: bool) -> None:
    files = ensure_certificates(tmp_path, "localhost", NOW)
    cert, ca = files.cert.read_bytes(), files.ca.read_bytes()
    ensure_certificates(tmp_path, "localhost", NOW + timedelta(days=days))
    assert (files.cert.read_bytes() != cert) is renewed
    assert files.ca.read_bytes() == ca


def test_an_authority_near_its_end_is_replaced_with_its_certificate(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, "localhost", NOW - timedelta(days=3640))
    ca = files.ca.read_bytes()
    ensure_certificates(tmp_path, "localhost")
    assert files.ca.read_bytes() != ca
    handshake(files, "localhost", files.ca)


def test_no_server_certificate_outlives_its_authority(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, "localhost", NOW)
    files = ensure_certificates(tmp_path, "localhost", NOW + timedelta(days=3500))
    ca, server = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (files.ca, files.cert))
    assert server.not_valid_after_utc <= ca.not_valid_after_utc


@pytest.mark.parametrize("damaged", ["ca.pem", "ca.key", "server.pem", "server.key"])
@pytest.mark.parametrize("content", [None, b"rubbish"])
def test_a_lost_or_damaged_file_is_made_anew(tmp_path: Path, damaged: str, content: bytes | None) -> None:
    files = ensure_certificates(tmp_path, "localhost")
    (tmp_path / damaged).unlink() if content is None else (tmp_path / damaged).write_bytes(content)
    ensure_certificates(tmp_path, "localhost")
    assert (tmp_path / damaged).read_bytes() not in (b"", content)
    handshake(files, "localhost", files.bundle)


def test_a_key_of_another_certificate_is_noticed(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path / "a", "localhost")
    other = ensure_certificates(tmp_path / "b", "localhost")
    files.key.write_bytes(other.key.read_bytes())
    ensure_certificates(tmp_path / "a", "localhost")
    assert files.key.read_bytes() != other.key.read_bytes()
    handshake(files, "localhost", files.ca)


@pytest.mark.parametrize("host", ["", "two words", "https://localhost", "host:9443"])
def test_something_that_is_no_host_name_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        ensure_certificates(tmp_path, host)


def test_two_processes_at_once_end_with_one_matching_set(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: ensure_certificates(tmp_path, "localhost"), range(8)))
    assert len({str(made.cert) for made in results}) == 1
    handshake(results[0], "localhost", results[0].ca)
