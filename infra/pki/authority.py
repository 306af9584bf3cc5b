"""The private CA (RFC 5280 profile): EC P-256, path length 0, leaves for clients or for servers, never for both.

The common name of a client certificate is the role or client that it speaks for, in RabbitMQ and in PostgreSQL.
"""

import datetime as dt
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.files import PUBLIC, write

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 398
SERVER_NAMES: Final = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    def save(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.pem` and, mode 0600, `<name>.key`; return both paths."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        write(certificate, self.certificate, PUBLIC)
        write(key, self.key)
        return certificate, key


class Authority:
    """Issues certificates."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """Sign with `key`; `create` and `load` make one."""
        self._certificate = certificate
        self._key = key

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def create(cls, name: str) -> "Authority":
        """Make a new CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, subject, key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """Read what `save` wrote.

        Raises:
            OSError: it is not there.
        """
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{folder / 'ca.key'}: not an EC key")
        return cls(certificate, key)

    def save(self, folder: Path) -> None:
        """Write `ca.pem` and `ca.key`."""
        Pair(self.pem, _private_pem(self._key)).save(folder, "ca")

    def client(self, common_name: str) -> Pair:
        """A certificate for who connects."""
        return self._leaf(common_name, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def server(self, common_name: str, names: tuple[str, ...] = SERVER_NAMES) -> Pair:
        """A certificate for who listens, under these DNS names or IP addresses."""
        return self._leaf(common_name, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def _leaf(self, common_name: str, usage: x509.ObjectIdentifier, names: tuple[str, ...]) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(subject, self._certificate.subject, key.public_key(), LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(issuer, critical=False)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_name(each) for each in names]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
