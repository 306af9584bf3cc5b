"""The client registry: who is enrolled. Public keys and names only; gateway and Cryptor each keep a copy of the file.

A name only routes. The owner of records is the random `client_id`, minted at enrolment and never used again.
"""

from functools import cached_property
from typing import Annotated

from pydantic import Field

from contracts.codec import Bytes16, Bytes32, Model
from contracts.failures import FailureCode, PermanentError


class Client(Model):
    """One enrolled client."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    client_id: Bytes16
    verify_key: Bytes32  # Ed25519
    operator: bool = False


class Registry(Model):
    """All enrolled clients."""

    clients: list[Client]

    @cached_property
    def _by_name(self) -> dict[str, Client]:
        return {client.name: client for client in self.clients}

    @cached_property
    def _by_id(self) -> dict[bytes, Client]:
        return {client.client_id: client for client in self.clients}

    def named(self, name: str | None) -> Client:
        """The client that the broker says is speaking.

        Raises:
            PermanentError: `unauthenticated`: `missing_user_id` or `unknown_client`.
        """
        if name is None:
            raise PermanentError(FailureCode.UNAUTHENTICATED, "missing_user_id")
        return self._found(self._by_name.get(name))

    def owner(self, client_id: bytes) -> Client:
        """The client that owns what `client_id` wrote.

        Raises:
            PermanentError: `unauthenticated`, `unknown_client`.
        """
        return self._found(self._by_id.get(client_id))

    @staticmethod
    def _found(client: Client | None) -> Client:
        if client is None:
            raise PermanentError(FailureCode.UNAUTHENTICATED, "unknown_client")
        return client
