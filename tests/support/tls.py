"""TLS in front of servers that have none: an authority, certificates of it, and a small proxy that speaks TLS."""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104
"""What a client of PostgreSQL sends first, by the protocol's documentation."""
_PIECE = 65_536


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """An authority and three certificates of it, as files."""

    authority: Path
    good: Path
    expired: Path
    of_another_host: Path
    stranger: Path
    """Of an authority that nobody trusts."""


def make_certificates(folder: Path) -> Certificates:
    """Certificates for `localhost`; key and certificate are in one file."""
    now = datetime.now(UTC)
    authority = _authority("test authority")
    path = folder / "authority.pem"
    path.write_bytes(authority[1].public_bytes(serialization.Encoding.PEM))
    return Certificates(
        authority=path,
        good=_signed(folder / "good.pem", authority, "localhost", until=now + timedelta(days=1)),
        expired=_signed(folder / "expired.pem", authority, "localhost", until=now - timedelta(minutes=1)),
        of_another_host=_signed(folder / "other.pem", authority, "elsewhere.example", until=now + timedelta(days=1)),
        stranger=_signed(folder / "stranger.pem", _authority("a stranger"), "localhost", until=now + timedelta(days=1)),
    )


_Authority = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def _authority(name: str) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=3))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, made


def _signed(path: Path, authority: _Authority, host: str, *, until: datetime) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(host)]
    if host == "localhost":
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
        .issuer_name(authority[1].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority[0].public_key()), critical=False)
        .sign(authority[0], hashes.SHA256())
    )
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.public_bytes(serialization.Encoding.PEM)
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


@contextmanager
def tls_before(port: int, certificate: Path, *, is_postgres: bool = False) -> Iterator[int]:
    """Port of `localhost` at which the server of another port is reached by TLS.

    is_postgres : TLS is asked for in PostgreSQL's own way; whoever does not ask is turned away
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_serve, args=(connection, context, port, is_postgres), daemon=True).start()

    thread = threading.Thread(target=accept, name=f"tls-before-{port}", daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)


def _serve(connection: socket.socket, context: ssl.SSLContext, port: int, is_postgres: bool) -> None:
    with contextlib.suppress(OSError), connection:
        if is_postgres and not _asks_for_tls(connection):
            return
        with (
            context.wrap_socket(connection, server_side=True) as front,
            socket.create_connection(("127.0.0.1", port)) as back,
        ):
            _pass_on(front, back)


def _asks_for_tls(connection: socket.socket) -> bool:
    while len(asked := connection.recv(8, socket.MSG_WAITALL)) == 8:
        code = struct.unpack("!II", asked)[1]
        if code == _SSL_REQUEST:
            connection.sendall(b"S")
            return True
        if code != _GSS_REQUEST:
            return False
        connection.sendall(b"N")
    return False


def _pass_on(front: ssl.SSLSocket, back: socket.socket) -> None:
    """Both ways in one thread, since two may not use one TLS connection; until either side ends."""
    while True:
        readable = [front] if front.pending() else select.select([front, back], [], [])[0]
        for source, target in ((front, back), (back, front)):
            if source in readable:
                piece = source.recv(_PIECE)
                if not piece:
                    return
                target.sendall(piece)
