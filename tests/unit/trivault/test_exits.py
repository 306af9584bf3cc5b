"""What a script sees when something goes wrong."""

import errno
import json
from uuid import UUID

import pytest

from contracts.failures import FailureCode, PermanentError, TransientError
from trivault.cli import _complaint
from trivault.exits import BY_CODE, MEANINGS, Exit, advice_of, exit_of
from trivault.terminal import Terminal

SECRET = "4f6e6c792074686520636c69656e74"


def test_every_code_has_an_exit_code_and_every_exit_code_a_meaning() -> None:
    """Nothing falls through the tables."""
    assert set(BY_CODE) == set(FailureCode)
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize("code", FailureCode)
def test_what_is_transient_may_be_tried_again(code: FailureCode) -> None:
    """Whatever its code says of permanent failures."""
    assert exit_of(TransientError(code)) is Exit.TRY_AGAIN
    assert exit_of(PermanentError(code)) is BY_CODE[code]
    assert exit_of(PermanentError(code)) is not Exit.OK


def test_a_reason_that_says_more_than_its_code_has_its_own_advice() -> None:
    """`busy` alone would send a user whose network is down to wait for the vault."""
    assert "network" in advice_of(FailureCode.BUSY, "broker_unreachable")
    assert advice_of(FailureCode.BUSY, "queue_full") == TransientError(FailureCode.BUSY).advice


def fail() -> None:
    """Be a bug."""
    raise ValueError(SECRET)


def test_a_bug_is_reported_without_its_text() -> None:
    """The message of an unexpected exception may hold content; its type and place do not."""
    with pytest.raises(ValueError, match=SECRET) as caught:
        fail()
    code, told = _complaint(caught.value)
    assert code is Exit.UNEXPECTED
    assert told["reason"] == "ValueError"
    assert "test_exits.py" in told["advice"]
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.bin"), "x.bin: No such file or directory"),
        (OSError("odd"), "cannot be used"),
    ],
)
def test_a_local_file_is_named(error: OSError, advice: str) -> None:
    """As the system names it."""
    code, told = _complaint(error)
    assert (code, told["error"], told["advice"]) == (Exit.USAGE, "file", advice)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_complaint_names_the_job_to_ask_for(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> None:
    """On stderr, so that stdout holds results only."""
    terminal = Terminal(as_json=as_json)
    terminal.job_id = UUID(int=7)
    terminal.complain({"error": "busy", "reason": "queue_full", "advice": "try again"})
    said = capsys.readouterr()
    assert said.out == ""
    if as_json:
        assert json.loads(said.err) == {
            "error": "busy",
            "reason": "queue_full",
            "advice": "try again",
            "job_id": str(UUID(int=7)),
        }
    else:
        assert said.err.splitlines() == [
            "trivault: busy (queue_full): try again",
            f"What became of it: trivault status {UUID(int=7)}",
        ]
