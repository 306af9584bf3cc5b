"""The private CA: what its certificates say, for how long, and whom a TLS 1.3 peer believes because of them."""

import datetime as dt
import ipaddress
import os
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.pki.authority import Authority, Pair

NO_USAGE = {
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
}


@pytest.fixture(scope="module")
def authority() -> Authority:
    """A CA."""
    return Authority.create("test CA")


def parsed(pem: bytes) -> x509.Certificate:
    """A certificate."""
    return x509.load_pem_x509_certificate(pem)


def usage(certificate: x509.Certificate) -> dict[str, bool]:
    """Its key usage, which is critical."""
    extension = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert extension.critical
    names = (*NO_USAGE, "digital_signature", "key_cert_sign", "crl_sign")
    return {name: getattr(extension.value, name) for name in names}


def common_name(name: x509.Name) -> str:
    """The only attribute of a name."""
    (attribute,) = name
    assert attribute.oid == NameOID.COMMON_NAME
    return str(attribute.value)


def test_the_ca_signs_certificates_and_nothing_else(authority: Authority) -> None:
    """Path length 0: it makes no other CAs. Ten years."""
    certificate = parsed(authority.pem)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert usage(certificate) == {**NO_USAGE, "digital_signature": False, "key_cert_sign": True, "crl_sign": True}
    assert common_name(certificate.subject) == common_name(certificate.issuer) == "test CA"
    certificate.verify_directly_issued_by(certificate)
    assert lifetime(certificate) == dt.timedelta(days=3650, minutes=5)


def lifetime(certificate: x509.Certificate) -> dt.timedelta:
    """From first to last second; it is valid already, and has been for as long as clocks may differ."""
    now = dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=4) < now - certificate.not_valid_before_utc < dt.timedelta(minutes=15)
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


@pytest.mark.parametrize("role", ["svc.gateway", "svc.cryptor.keystore", "alice"])
def test_a_clients_certificate_is_for_connecting_only(authority: Authority, role: str) -> None:
    """Its common name is the role; no other name is in it."""
    certificate = parsed(authority.client(role).certificate)
    assert common_name(certificate.subject) == role
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_servers_certificate_is_for_listening_only(authority: Authority) -> None:
    """Under the loopback's names."""
    certificate = parsed(authority.server("rabbitmq").certificate)
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]


@pytest.mark.parametrize("issue", [Authority.client, Authority.server], ids=["client", "server"])
def test_a_leaf_is_the_cas_and_no_ca(authority: Authority, issue: Callable[[Authority, str], Pair]) -> None:
    """Signed by it, names it as issuer, cannot sign others; P-256, SHA-256, about a year."""
    pair = issue(authority, "somebody")
    certificate, ca = parsed(pair.certificate), parsed(authority.pem)
    certificate.verify_directly_issued_by(ca)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    assert usage(certificate) == {**NO_USAGE, "digital_signature": True, "key_cert_sign": False, "crl_sign": False}
    issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer.key_identifier == own.key_identifier
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert lifetime(certificate) == dt.timedelta(days=398, minutes=5)
    key = serialization.load_pem_private_key(pair.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate.public_key()


def test_no_key_and_no_serial_number_is_used_twice(authority: Authority) -> None:
    """Not even for the same name."""
    pairs = [authority.client("alice"), authority.client("alice"), authority.server("alice"), authority.server("bob")]
    certificates = [parsed(pem) for pem in (authority.pem, *(pair.certificate for pair in pairs))]
    assert len({certificate.serial_number for certificate in certificates}) == 5
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert len({certificate.public_key().public_bytes(*spki) for certificate in certificates}) == 5


# --- files ------------------------------------------------------------------------------------------------------------


def test_keys_are_private_whatever_the_umask(authority: Authority, tmp_path: Path) -> None:
    """0600 from the start; certificates are for everybody to read and for nobody to change."""
    before = os.umask(0)
    try:
        authority.save(tmp_path)
        files = [tmp_path / "ca.pem", tmp_path / "ca.key", *authority.client("alice").save(tmp_path, "alice")]
    finally:
        os.umask(before)
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in files} == {
        "ca.pem": 0o644,
        "ca.key": 0o600,
        "alice.pem": 0o644,
        "alice.key": 0o600,
    }
    assert len(list(tmp_path.iterdir())) == 4


def test_a_saved_ca_goes_on_issuing(authority: Authority, tmp_path: Path) -> None:
    """What was issued before and after is the same CA's."""
    authority.save(tmp_path)
    again = Authority.load(tmp_path)
    assert again.pem == authority.pem
    parsed(again.client("alice").certificate).verify_directly_issued_by(parsed(authority.pem))


def test_what_is_no_ca_is_not_loaded(authority: Authority, tmp_path: Path) -> None:
    """Missing, or with a key of another kind."""
    with pytest.raises(FileNotFoundError):
        Authority.load(tmp_path)
    authority.save(tmp_path)
    other = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "ca.key").write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(TypeError, match=r"ca\.key: not an EC key"):
        Authority.load(tmp_path)


def test_a_pair_does_not_show_its_key(authority: Authority) -> None:
    """Not in a traceback or a log."""
    pair = authority.client("alice")
    assert "PRIVATE" not in repr(pair)
    assert "key=" not in repr(pair)


# --- who is believed --------------------------------------------------------------------------------------------------


@contextmanager
def saved(folder: Path, pair: Pair) -> Iterator[tuple[Path, Path]]:
    """A pair in files, for as long as OpenSSL reads them."""
    paths = pair.save(folder, "pair")
    yield paths
    for path in paths:
        path.unlink()


def shake(folder: Path, ca: bytes, client: Pair, server: Pair, host: str = "localhost") -> None:
    """A TLS 1.3 handshake in memory, each side checking the other strictly.

    Raises:
        ssl.SSLError: one of them does not believe the other.
    """
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for tls, pair in ((ours, client), (theirs, server)):
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.verify_flags |= ssl.VERIFY_X509_STRICT
        tls.load_verify_locations(cadata=ca.decode())
        with saved(folder, pair) as paths:
            tls.load_cert_chain(*paths)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (ours.wrap_bio(back, there, server_hostname=host), theirs.wrap_bio(there, back, server_side=True))
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert all(end.version() == "TLSv1.3" for end in ends)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_roles_and_servers_believe_each_other(authority: Authority, tmp_path: Path, host: str) -> None:
    """What every refusal below is compared with."""
    shake(tmp_path, authority.pem, authority.client("alice"), authority.server("rabbitmq"), host)


def test_another_cas_certificates_are_not_believed(authority: Authority, tmp_path: Path) -> None:
    """Even if that CA has the same name."""
    other = Authority.create("test CA")
    with pytest.raises(ssl.SSLError):
        shake(tmp_path, authority.pem, other.client("alice"), authority.server("rabbitmq"))
    with pytest.raises(ssl.SSLError):
        shake(tmp_path, authority.pem, authority.client("alice"), other.server("rabbitmq"))


def test_clients_are_no_servers_and_servers_no_clients(authority: Authority, tmp_path: Path) -> None:
    """Whoever has stolen a client's key cannot pose as the broker, nor the broker as a client."""
    with pytest.raises(ssl.SSLError, match="purpose"):
        shake(tmp_path, authority.pem, authority.server("alice"), authority.server("rabbitmq"))
    with pytest.raises(ssl.SSLError, match="purpose"):
        shake(tmp_path, authority.pem, authority.client("alice"), authority.client("localhost"))


def test_a_server_under_another_name_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    """Names in the certificate count, not its common name."""
    with pytest.raises(ssl.SSLError, match=r"[Hh]ostname mismatch"):
        shake(tmp_path, authority.pem, authority.client("alice"), authority.server("localhost", ("elsewhere",)))


def test_a_leaf_issues_nothing(authority: Authority, tmp_path: Path) -> None:
    """A client that signs certificates with its own key, chain attached, is nobody's CA."""
    alice = authority.client("alice")
    key = serialization.load_pem_private_key(alice.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    forged = Authority(parsed(alice.certificate), key).client("svc.cryptor")
    chain = Pair(forged.certificate + alice.certificate, forged.key)
    with pytest.raises(ssl.SSLError):
        shake(tmp_path, authority.pem, chain, authority.server("rabbitmq"))


def test_the_ca_makes_no_other_ca(authority: Authority, tmp_path: Path) -> None:
    """Its path length is 0: an intermediate that it signed by mistake issues nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca = parsed(authority.pem)
    now = dt.datetime.now(dt.UTC)
    intermediate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority._key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(ca.extensions.get_extension_for_class(x509.KeyUsage).value, critical=True)
        .sign(authority._key, hashes.SHA256())
    )
    leaf = Authority(intermediate, key).client("alice")
    chain = Pair(leaf.certificate + intermediate.public_bytes(serialization.Encoding.PEM), leaf.key)
    with pytest.raises(ssl.SSLError, match=r"path length"):
        shake(tmp_path, authority.pem, chain, authority.server("rabbitmq"))
