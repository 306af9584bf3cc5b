"""The DataStore's settings: exactly the backend that was chosen, and S3 over TLS only."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from workers.datastore.settings import S3Settings, Settings

FILE = Path("/nowhere")
BROKER = {
    "url": "amqps://localhost:5671/datastore",
    "ca_file": FILE,
    "cert_file": FILE,
    "key_file": FILE,
    "link_file": FILE,
}
S3: dict[str, Any] = {
    "endpoint_url": "https://localhost:9000",
    "bucket": "objects",
    "ca_file": FILE,
    "access_key_file": FILE,
    "secret_key_file": FILE,
}
DIRECTORY = {"path": FILE}


@pytest.mark.parametrize(
    ("backend", "sections"),
    [
        ("s3", {}),
        ("s3", {"directory": DIRECTORY}),
        ("directory", {"s3": S3}),
        ("s3", {"s3": S3, "directory": DIRECTORY}),
    ],
)
def test_a_backend_needs_its_own_section_and_no_other(backend: str, sections: dict[str, Any]) -> None:
    """A store that would look for its objects in the wrong place does not start."""
    with pytest.raises(ValidationError, match=f"needs the section .{backend}."):
        Settings.model_validate({"broker": BROKER, "backend": backend} | sections)


def test_the_chosen_backend_is_enough() -> None:
    """Both backends can be chosen with their section alone."""
    for backend, section in (("s3", S3), ("directory", DIRECTORY)):
        settings = Settings.model_validate({"broker": BROKER, "backend": backend, backend: section})
        assert (settings.s3 is None, settings.directory is None) == (backend != "s3", backend != "directory")


@pytest.mark.parametrize(
    "url", ["http://localhost:9000", "https://key:secret@localhost", "https://localhost/path", "localhost:9000"]
)
def test_only_https_is_spoken(url: str) -> None:
    """There is no plaintext connection to S3, and no secret in its address."""
    with pytest.raises(ValidationError, match="endpoint_url"):
        S3Settings.model_validate(S3 | {"endpoint_url": url})
