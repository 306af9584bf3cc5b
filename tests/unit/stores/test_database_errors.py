"""Failures of the database driver, split by what to do: try again, or raise the alarm."""

import ssl

import asyncpg
import pytest
from asyncpg.exceptions import _base

from contracts.failures import TransientError
from workers.postgres import database_errors


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(),
        ssl.SSLCertVerificationError(),  # a ValueError too
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("got result for unknown protocol state"),  # the server was killed in mid-answer
        asyncpg.ConnectionDoesNotExistError(),
        asyncpg.CannotConnectNowError(),
        asyncpg.AdminShutdownError(),
        asyncpg.DeadlockDetectedError(),
        asyncpg.DiskFullError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_database_that_is_away_is_asked_again(error: Exception) -> None:
    """Whoever called hears of it as transient, and nothing is said to have happened."""
    with pytest.raises(TransientError), database_errors():
        raise error


@pytest.mark.parametrize(
    "error",
    [_base.DataError("invalid input for query argument $1"), asyncpg.UndefinedTableError(), TypeError()],
    ids=lambda error: type(error).__name__,
)
def test_a_statement_that_is_wrong_is_a_bug(error: Exception) -> None:
    """No later try would do better."""
    with pytest.raises(type(error)), database_errors():
        raise error
