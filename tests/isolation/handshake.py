"""An AMQP handshake by hand: what the node answers whoever knocks, without a library's opinion on it."""

import socket
import ssl
from collections.abc import Iterator
from typing import Final

import pamqp.frame
from pamqp import commands
from pamqp.base import Frame
from pamqp.common import FieldTable

HEADER: Final = b"AMQP\x00\x00\x09\x01"
SECONDS: Final = 10
OPEN: Final = "open"
CAPABILITIES: Final[FieldTable] = {
    "capabilities": {"authentication_failure_close": True}
}  # tell us, instead of waiting 3 seconds
GONE: Final = "hung up"  # the node closed the connection without a word


def knock(port: int, vhost: str, tls: ssl.SSLContext | None, mechanism: str = "EXTERNAL", response: str = "") -> str:
    """Try to open `vhost`.

    Args:
        port: of the node, on this machine.
        vhost: to open.
        tls: who we are; None knocks without TLS.
        mechanism: of SASL.
        response: to its first challenge.

    Returns:
        `OPEN`, `refused <code>` (the node's own reply code), `tls <reason>` or `GONE`.
    """
    try:
        with socket.create_connection(("localhost", port), SECONDS) as plain:
            if tls is None:
                return _talk(plain, vhost, mechanism, response)
            with tls.wrap_socket(plain, server_hostname="localhost") as wrapped:
                told = _talk(wrapped, vhost, mechanism, response)
                if told == OPEN:
                    wrapped.unwrap().close()  # without this good-bye it counts as connected for half a minute or more
                return told
    except ssl.SSLError as error:
        return f"tls {error.reason}"
    except ConnectionError:
        return GONE


def mechanisms(port: int, tls: ssl.SSLContext) -> str:
    """Which SASL mechanisms the node offers, separated by spaces."""
    with (
        socket.create_connection(("localhost", port), SECONDS) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        wrapped.sendall(HEADER)
        start = next(_frames(wrapped))
        assert isinstance(start, commands.Connection.Start)
        return start.mechanisms


def _talk(wire: socket.socket, vhost: str, mechanism: str, response: str) -> str:
    wire.sendall(HEADER)
    for frame in _frames(wire):
        match frame:
            case commands.Connection.Start():
                _send(wire, commands.Connection.StartOk(CAPABILITIES, mechanism, response, "en_US"))
            case commands.Connection.Tune():
                _send(wire, commands.Connection.TuneOk(frame.channel_max, frame.frame_max, 0))
                _send(wire, commands.Connection.Open(vhost))
            case commands.Connection.OpenOk():
                return OPEN
            case commands.Connection.Close():
                return f"refused {frame.reply_code}"
    return GONE


def _send(wire: socket.socket, frame: Frame) -> None:
    wire.sendall(pamqp.frame.marshal(frame, 0))


def _frames(wire: socket.socket) -> Iterator[object]:
    """What the node says, frame by frame, until it hangs up."""
    heard = b""
    while more := wire.recv(65536):
        heard += more
        while len(heard) >= 7 and len(heard) >= (size := 8 + int.from_bytes(heard[3:7], "big")):
            yield pamqp.frame.unmarshal(heard[:size])[2]
            heard = heard[size:]
