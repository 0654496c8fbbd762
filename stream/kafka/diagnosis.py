"""Why a cluster does not serve this client, in one sentence, with the remedy.

aiokafka reports each failed connection as "Unable to bootstrap". So after a failure the connection
is tried once more, step by step: name, port, TLS, SASL, and what the cluster says of its brokers.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InvalidTimestampError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from stream.config.secure_settings import KafkaSettings
from stream.errors import BrokerError
from stream.kafka.clock import clock_is_wrong

_ANSWER_S: Final = 5.0
_CLOSE_S: Final = 1.0
_FAILURES: Final = (KafkaError, OSError, TimeoutError, ValueError, AssertionError)
"""What a connection raises: also by what answers and is no Kafka broker."""
_UNTRUSTED: Final = {18, 19, 20, 21}
"""OpenSSL: signed by itself, or by an authority that is not known."""
_NOT_YET, _EXPIRED = 9, 10
_OTHER_HOST: Final = {62, 64}
_RIGHTS: Final = "give it those of deploy/acls/rights.toml"
_TLS_OF: Final = {"PLAINTEXT": "SSL", "SASL_PLAINTEXT": "SASL_SSL"}
_PLAIN_OF: Final = {tls: plain for plain, tls in _TLS_OF.items()}


def denied(error: BaseException | None, kafka: KafkaSettings) -> str | None:
    """Return what the cluster refuses and why: a right is missing, or the clock is wrong.

    None where `error` says neither.
    """
    user = kafka.sasl_username or "this client"
    named = ", ".join(_texts(error)) if error is not None else ""
    if isinstance(error, TopicAuthorizationFailedError):
        return f"{user} lacks a right on topic {named or 'it'}: {_RIGHTS}"
    if isinstance(error, GroupAuthorizationFailedError):
        return f"{user} lacks the right Read on group {named}: {_RIGHTS}"
    if isinstance(error, TransactionalIdAuthorizationFailed):
        return f"{user} lacks the right Write on transactional id {named}: {_RIGHTS}"
    if isinstance(error, ClusterAuthorizationFailedError):
        # What the broker answers an idempotent producer without Write on any topic.
        return f"{user} lacks the right Write on the topic, or one on the cluster: {_RIGHTS}"
    if isinstance(error, InvalidTimestampError):
        return clock_is_wrong()
    return None


async def unusable(kafka: KafkaSettings, error: BaseException) -> BrokerError:
    """Return the error to raise where `error` says that no broker serves this client."""
    return BrokerError(await why(kafka, error))


async def why(kafka: KafkaSettings, error: BaseException) -> str:
    """Return why no broker serves this client, and the remedy; `error`: what a client raised.

    Raises:
        SettingsError: a TLS file or a secret cannot be read.
    """
    missing = denied(error, kafka)
    if missing is not None:
        return missing
    probe = _Probe(kafka)
    reasons: list[str] = []
    for host, port, _ in collect_hosts(kafka.bootstrap_servers, randomize=False):
        reason, brokers = await probe.server(host, port)
        if reason is None:
            # This one answers: what is wrong is elsewhere in the cluster.
            reasons = [await probe.advertised(brokers)]
            break
        reasons.append(reason)
    found = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
    return found or (
        f"the Kafka cluster at {kafka.bootstrap_servers} ({kafka.security_protocol}) answers, but"
        f" not to this: {_text(error)}; try again, and look at the broker's log"
    )


class _Probe:
    """Tries connections as the settings describe them, and otherwise where that tells why."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._options = {
            name: value
            for name, value in kafka.client_options().items()
            if name != "bootstrap_servers"
        }

    async def server(self, host: str, port: int) -> tuple[str | None, list[tuple[str, int]]]:
        """Return what is wrong with one server, None if nothing, and the brokers that it names."""
        try:
            async with self._connected(host, port) as connection:
                metadata = await connection.send(MetadataRequest([]))
                brokers = metadata.to_object()["brokers"]
        except _FAILURES as error:
            return await self._reason(host, port, error), []
        return None, [(broker["host"], broker["port"]) for broker in brokers]

    async def advertised(self, brokers: list[tuple[str, int]]) -> str:
        """Return what is wrong with the addresses that the cluster gives, empty if nothing."""
        for host, port in brokers:
            try:
                async with self._connected(host, port):
                    pass
            except _FAILURES as error:
                reason = await self._reason(host, port, error)
                return (
                    f"the cluster tells clients to connect to {host}:{port}, and there: {reason};"
                    " check the broker's advertised.listeners"
                )
        return ""

    @asynccontextmanager
    async def _connected(
        self, host: str, port: int, **changes: Any
    ) -> AsyncIterator[AIOKafkaConnection]:
        options = self._options | changes
        if not str(options["security_protocol"]).startswith("SASL"):
            options = {k: v for k, v in options.items() if not k.startswith("sasl")}
        async with asyncio.timeout(_ANSWER_S):
            connection = await create_conn(
                host, port, request_timeout_ms=round(_ANSWER_S * 1000), **options
            )
        try:
            yield connection
        finally:
            await asyncio.wait({connection.close()}, timeout=_CLOSE_S)

    async def _reason(self, host: str, port: int, error: BaseException) -> str:
        where, kafka = f"{host}:{port}", self._kafka
        protocol = kafka.security_protocol
        if isinstance(error, socket.gaierror):
            return f"the name {host} is not known (DNS: {error.strerror}): check {where}"
        if _refused(error) or isinstance(error, TimeoutError):
            return _silent(where, error)
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._certificate(where, error)
        if isinstance(error, SaslAuthenticationFailed | AuthenticationFailedError):
            return (
                f"the broker at {where} refuses user {kafka.sasl_username}: no such user, or"
                f" another password ({protocol}, {kafka.sasl_mechanism}): check"
                " kafka.sasl_username and kafka.sasl_password"
            )
        if protocol in _PLAIN_OF and isinstance(error, ssl.SSLError | ConnectionError):
            # Nothing is sent without TLS to find out more: it was asked for.
            return (
                f"no Kafka broker answers at {where} with TLS ({_text(error)}), and"
                f" kafka.security_protocol is {protocol}: check the port, and set"
                f" {_PLAIN_OF[protocol]} only where the listener speaks no TLS"
            )
        return await self._other_listener(host, port) or (
            f"the Kafka broker at {where} ({protocol}) cannot be used: {_text(error)}; check"
            " --bootstrap-servers and the kafka settings"
        )

    def _certificate(self, where: str, error: ssl.SSLCertVerificationError) -> str:
        if error.verify_code == _EXPIRED:
            return f"the certificate of the broker at {where} has expired: renew it"
        if error.verify_code == _NOT_YET:
            return (
                f"the certificate of the broker at {where} is not valid yet: check this machine's"
                " clock"
            )
        if error.verify_code in _OTHER_HOST:
            return (
                f"the certificate of the broker at {where} is for another host name"
                f" ({error.verify_message}): name the broker as its certificate does"
            )
        trusted = self._kafka.ssl_cafile or "the system's"
        told = (
            "is signed by an authority that is not trusted"
            if error.verify_code in _UNTRUSTED
            else f"is refused ({error.verify_message})"
        )
        return (
            f"the certificate of the broker at {where} {told} (trusted: {trusted}): set"
            " kafka.ssl_cafile to the authority's PEM file"
        )

    async def _other_listener(self, host: str, port: int) -> str | None:
        """Return how the listener differs from the settings, None where that is not it."""
        protocol = self._kafka.security_protocol
        where = f"{host}:{port}"
        if protocol in _TLS_OF and await self._speaks_tls(host, port):
            return (
                f"the listener at {where} speaks TLS, and kafka.security_protocol is {protocol}:"
                f" set it to {_TLS_OF[protocol]}, or use the port of a {protocol} listener"
            )
        mechanisms = await self._mechanisms(host, port, protocol.removeprefix("SASL_"))
        return None if mechanisms is None else self._other_sasl(where, mechanisms)

    def _other_sasl(self, where: str, offered: list[str]) -> str | None:
        protocol, wanted = self._kafka.security_protocol, self._kafka.sasl_mechanism
        if not protocol.startswith("SASL"):
            if not offered:
                return None
            return (
                f"the listener at {where} demands SASL ({', '.join(offered)}), and"
                f" kafka.security_protocol is {protocol}: set it to"
                f" SASL_{protocol}, with kafka.sasl_username and kafka.sasl_password"
            )
        if not offered:
            return (
                f"the listener at {where} knows no SASL, and kafka.security_protocol is"
                f" {protocol}: set it to {protocol.removeprefix('SASL_')}"
            )
        if wanted in offered:
            return None
        return (
            f"the broker at {where} does not offer {wanted} but {', '.join(offered)}: set"
            " kafka.sasl_mechanism"
        )

    async def _speaks_tls(self, host: str, port: int) -> bool:
        context = ssl.create_default_context()
        # Nothing is sent: only whether a handshake comes to an end is of interest.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            async with asyncio.timeout(_ANSWER_S):
                _, writer = await asyncio.open_connection(host, port, ssl=context)
        except (OSError, TimeoutError):
            return False
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def _mechanisms(self, host: str, port: int, protocol: str) -> list[str] | None:
        """Return the SASL mechanisms of a listener, none without SASL; None: it does not answer."""
        try:
            async with self._connected(host, port, security_protocol=protocol) as connection:
                asked = SaslHandShakeRequest(self._kafka.sasl_mechanism)
                answer = await connection.send(asked)
        except _FAILURES:
            return None
        illegal = answer.error_code == IllegalSaslStateError.errno
        if answer.error_code not in {0, UnsupportedSaslMechanismError.errno} and not illegal:
            return None
        return [] if illegal else list(answer.enabled_mechanisms)


def _silent(where: str, error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return (
            f"no Kafka broker answers at {where} within {_ANSWER_S:.0f} s: check"
            " --bootstrap-servers, that the broker runs, and firewalls on the way"
        )
    return (
        f"no Kafka broker answers at {where} (connection refused): check --bootstrap-servers, or"
        " run `intentstream broker start`"
    )


def _refused(error: BaseException) -> bool:
    """Whether nothing listens; asyncio joins the errors of several addresses into a text."""
    if isinstance(error, ConnectionRefusedError):
        return True
    text = str(error)
    return isinstance(error, OSError) and f"[Errno {errno.ECONNREFUSED}]" in text


def _texts(error: BaseException) -> list[str]:
    """The names in an authorization error: aiokafka gives one, or a set of them."""
    texts: list[str] = []
    for argument in error.args:
        several = isinstance(argument, set | frozenset | list | tuple)
        texts += sorted(map(str, argument)) if several else [str(argument)]
    # What follows the name says once more that a right is missing.
    return [text.partition(":")[0] for text in texts]


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
