"""Permissions are regular expressions, searched for anywhere in a name: no client's may match anything of another's."""

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from contracts import topology
from contracts.topology import CLIENT_NAME, client_permission, client_topic_permission, download_queue, upload_queue

JOB = "0b0e7a54-7f0b-4d5c-9b5e-6f1f0d9f8a11"

names = st.from_regex(CLIENT_NAME, fullmatch=True)


@st.composite
def lookalikes(draw: st.DrawFn) -> tuple[str, str]:
    """Two names that are alike: `al` and `alice`, `alice` and `alice-2`, `alice` and `alica`, or any two."""
    name = draw(names)
    change = draw(st.sampled_from(["begin", "end", "both", "one", "any"]))
    other = {
        "begin": lambda: draw(names) + name,
        "end": lambda: name + draw(st.sampled_from(["-", "-2", "2", "a", f"-{name}", "-up", "down"])),
        "both": lambda: draw(names) + name + draw(names),
        "one": lambda: name[:-1] + draw(st.sampled_from("abcz019-")),
        "any": lambda: draw(names),
    }[change]()
    assume(CLIENT_NAME.fullmatch(other) and other != name)
    return (name, other) if draw(st.booleans()) else (other, name)


def _matches(pattern: str, name: str) -> bool:
    """As RabbitMQ does: anywhere in the name, unless the pattern says otherwise."""
    return re.search(pattern, name) is not None


@given(lookalikes())
def test_no_client_matches_what_is_anothers(pair: tuple[str, str]) -> None:
    """Neither to read his results nor to write his uploads, whatever their names have in common."""
    one, other = pair
    assert not _matches(client_permission(one).read, download_queue(other, JOB))
    assert not _matches(client_topic_permission(one).write, upload_queue(other, JOB))


@given(names)
def test_every_client_matches_its_own(name: str) -> None:
    """And so do the roles that work for it."""
    assert _matches(client_permission(name).read, download_queue(name, JOB))
    assert _matches(client_topic_permission(name).write, upload_queue(name, JOB))
    gateway, cryptor = topology.VHOSTS[0].permissions
    assert _matches(gateway.configure, upload_queue(name, JOB))
    assert _matches(cryptor.configure, download_queue(name, JOB))
    assert _matches(cryptor.read, upload_queue(name, JOB))


@given(names)
def test_a_client_matches_nothing_that_belongs_to_everybody(name: str) -> None:
    """No queue of a service, no exchange but its two, no upload queue; and it configures nothing at all."""
    permission = client_permission(name)
    edge = topology.VHOSTS[0]
    queues = [queue.name for queue in edge.queues]
    exchanges = [exchange.name for exchange in edge.exchanges]
    mine = [upload_queue(name, JOB), download_queue(name, JOB)]
    everything = [*queues, *exchanges, *mine, "amq.default", "amq.topic", "amq.gen-x", name]
    assert not any(_matches(permission.configure, each) for each in everything)
    assert [each for each in everything if _matches(permission.write, each)] == ["requests", "uploads"]
    assert [each for each in everything if _matches(permission.read, each)] == [download_queue(name, JOB)]
    assert not any(_matches(client_topic_permission(name).read, each) for each in everything)


@given(names)
def test_a_clients_name_is_no_users_name_of_ours(name: str) -> None:
    """It has no dot, and every role has one."""
    assert name not in topology.ROLES
    assert not name.startswith(topology.ROLE_PREFIX)
    assert re.escape(name).replace(r"\-", "-") == name  # it means itself in an expression


FAMILIES = ("up.", "down.")  # of per-job queues: whatever follows


def test_every_pattern_is_anchored_at_both_ends() -> None:
    """`jobs` permits neither `xjobs` nor `jobsx`, and no alternative stands outside the parentheses."""
    permissions = [each for vhost in topology.VHOSTS for each in vhost.permissions] + [client_permission("alice")]
    patterns = [pattern for each in permissions for pattern in (each.configure, each.write, each.read)]
    topics = client_topic_permission("alice")
    known = {
        *(queue.name for vhost in topology.VHOSTS for queue in vhost.queues),
        *(exchange.name for vhost in topology.VHOSTS for exchange in vhost.exchanges),
        *("amq.default", "up.alice.x", "down.alice.x"),
    }
    for pattern in (*patterns, topics.write, topics.read):
        assert pattern.startswith("^")
        assert pattern.endswith("$")
        for name in known:
            assert not _matches(pattern, f"x{name}"), pattern
            assert not _matches(pattern, f"x\n{name}"), pattern
            assert name.startswith(FAMILIES) or not _matches(pattern, f"{name}x"), pattern
            assert name.startswith(FAMILIES) or not _matches(pattern, f"{name}.x"), pattern


def test_a_dot_is_a_dot() -> None:
    """`gateway.requests` is not `gateway-requests`, which nobody declares today."""
    permissions = [each for vhost in topology.VHOSTS for each in vhost.permissions] + [client_permission("alice")]
    for each in permissions:
        for pattern in (each.configure, each.write, each.read):
            for name in (
                "gateway-requests",
                "cryptor-bulk",
                "dead-letters",
                "amq-default",
                "up-alice.x",
                "down-alice.x",
            ):
                assert not _matches(pattern, name), (each.user, pattern)
