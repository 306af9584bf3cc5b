"""The DataStore's settings: exactly the backend that was chosen, and S3 over TLS only."""

from typing import Any

import pytest
from pydantic import ValidationError

from infra.files import write
from infra.provision import provision
from workers.datastore.settings import S3Settings, Settings

Sections = dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Sections:
    """Every section, as it should be."""
    folder = provision(tmp_path_factory.mktemp("vault")).of("datastore")
    for name in ("s3.access", "s3.secret"):
        write(folder / name, "x")
    return {
        "broker": {
            "url": "amqps://localhost:5671/datastore",
            "ca_file": folder / "ca.pem",
            "cert_file": folder / "svc.datastore.pem",
            "key_file": folder / "svc.datastore.key",
            "link_file": folder / "cryptor-datastore.json",
        },
        "s3": {
            "endpoint_url": "https://localhost:9000",
            "bucket": "objects",
            "ca_file": folder / "ca.pem",
            "access_key_file": folder / "s3.access",
            "secret_key_file": folder / "s3.secret",
        },
        "directory": {"path": folder},
    }


@pytest.mark.parametrize(
    ("backend", "sections"),
    [("s3", ()), ("s3", ("directory",)), ("directory", ("s3",)), ("s3", ("s3", "directory"))],
)
def test_a_backend_needs_its_own_section_and_no_other(told: Sections, backend: str, sections: tuple[str, ...]) -> None:
    """A store that would look for its objects in the wrong place does not start."""
    with pytest.raises(ValidationError, match=f"needs the section .{backend}."):
        Settings.model_validate({"backend": backend} | {name: told[name] for name in ("broker", *sections)})


def test_the_chosen_backend_is_enough(told: Sections) -> None:
    """Both backends can be chosen with their section alone."""
    for backend in ("s3", "directory"):
        settings = Settings.model_validate({"broker": told["broker"], "backend": backend, backend: told[backend]})
        assert (settings.s3 is None, settings.directory is None) == (backend != "s3", backend != "directory")


@pytest.mark.parametrize(
    "url", ["http://localhost:9000", "https://key:secret@localhost", "https://localhost/path", "localhost:9000"]
)
def test_only_https_is_spoken(told: Sections, url: str) -> None:
    """There is no plaintext connection to S3, and no secret in its address."""
    with pytest.raises(ValidationError, match="endpoint_url"):
        S3Settings.model_validate(told["s3"] | {"endpoint_url": url})
