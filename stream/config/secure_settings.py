"""The sections of the settings that hold secrets or say whom to trust.

A secret is given as text (environment, settings file) or as a file that holds nothing else; it is
read when it is needed and shown nowhere.
"""

import ssl
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from models.files import read_bounded
from schemas.pseudonym import MIN_KEY_BYTES, Pseudonyms
from stream.config.units import Unit
from stream.errors import NoBrokerNamed, SettingsError

_SECRET_BYTES = 64 << 10


class Section(BaseModel):
    """A part of the settings: frozen, strict about names, described by its docstrings."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


def one_source(secret: SecretStr | None, file: Path | None, name: str) -> None:
    """Refuse a secret that is given twice; raises ValueError."""
    if secret is not None and file is not None:
        raise ValueError(f"{name} and {name}_file are both set: keep one")


def read_secret(secret: SecretStr | None, file: Path | None, name: str) -> str | None:
    """The secret itself, None where neither is set.

    Raises:
        SettingsError: the file cannot be read, is empty or no text.
    """
    if file is None:
        return secret.get_secret_value() if secret else None
    try:
        text = read_bounded(file, _SECRET_BYTES).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or error if isinstance(error, OSError) else "it is no UTF-8 text"
        raise SettingsError(f"{name}_file: cannot read {file}: {why}") from None
    if not text:
        raise SettingsError(f"{name}_file: {file} is empty")
    return text


class KafkaSettings(Section):
    """How to reach the Kafka cluster."""

    bootstrap_servers: str = ""
    """Brokers as `host:port`, separated by commas; empty: the embedded broker, where one is
    running."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How clients connect to the brokers. SASL_PLAINTEXT sends credentials over an unencrypted
    connection, so it must be named."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How a client proves who it is; PLAIN sends the password itself."""
    sasl_username: str | None = None
    """User name for SASL."""
    sasl_password: SecretStr | None = None
    """Password for SASL."""
    sasl_password_file: Path | None = None
    """File that holds the password and nothing else; it is read again for every client."""
    ssl_cafile: Path | None = None
    """PEM file of the certificate authorities to trust; unset: the system's."""
    ssl_certfile: Path | None = None
    """PEM file of the client's certificate, for mutual TLS."""
    ssl_keyfile: Path | None = None
    """PEM file of the client's private key; unset: it is in ssl_certfile."""
    ssl_key_password: SecretStr | None = None
    """Password of the client's private key, where it has one."""
    ssl_key_password_file: Path | None = None
    """File that holds the private key's password and nothing else."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        sasl = self.security_protocol.startswith("SASL")
        tls = self.security_protocol.endswith("SSL")
        one_source(self.sasl_password, self.sasl_password_file, "sasl_password")
        one_source(self.ssl_key_password, self.ssl_key_password_file, "ssl_key_password")
        password = self.sasl_password or self.sasl_password_file
        if (self.sasl_username or password) and not sasl:
            raise ValueError(
                f"SASL credentials are set but security_protocol is {self.security_protocol}: set"
                " it to SASL_SSL (or SASL_PLAINTEXT to send them unencrypted)"
            )
        if sasl and not (self.sasl_username and password):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username and sasl_password"
                " (or sasl_password_file)"
            )
        if (self.ssl_cafile or self.ssl_certfile) and not tls:
            raise ValueError(
                f"TLS files are set but security_protocol is {self.security_protocol}: set it to"
                " SSL or SASL_SSL"
            )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile needs ssl_certfile")
        return self

    def client_options(self) -> dict[str, Any]:
        """Return the keyword arguments that every aiokafka client takes to connect.

        Raises:
            SettingsError: no broker is named, or a TLS file or secret cannot be read.
        """
        if not self.bootstrap_servers:
            raise NoBrokerNamed(
                "no Kafka broker: pass --bootstrap-servers host:port, set"
                " INTENTSTREAM_KAFKA__BOOTSTRAP_SERVERS, or run `intentstream broker start` here: a"
                " local one is found by its data_dir"
            )
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self.ssl_context()
        if self.sasl_username:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = read_secret(
                self.sasl_password, self.sasl_password_file, "kafka.sasl_password"
            )
        return options

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context that checks the broker's certificate and host name.

        Raises:
            SettingsError: a certificate or key file is missing or not readable as PEM.
        """
        password = read_secret(
            self.ssl_key_password, self.ssl_key_password_file, "kafka.ssl_key_password"
        )
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile:
                # Without a password OpenSSL would ask on the terminal, and wait.
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, password or "")
        except OSError as error:
            files = [self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile]
            named = ", ".join(str(file) for file in files if file)
            raise SettingsError(
                f"cannot read the TLS files ({named}): {error}; check kafka.ssl_cafile,"
                " kafka.ssl_certfile, kafka.ssl_keyfile and kafka.ssl_key_password"
            ) from error
        return context


def _paths(value: object) -> object:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_paths)]


class ModelSettings(Section):
    """Who signs models, and whose signatures are believed."""

    trusted_keys: Paths = ()
    """Public keys (PEM files, or their names with commas between) whose models a worker serves."""
    signing_key: Path | None = None
    """The trainer's private key, as `intentstream models keygen` makes it; a worker needs none."""
    require_signature: bool | None = None
    """Whether unsigned models are refused; unset: yes, once there are trusted keys."""
    load_limit_ms: Annotated[int, Unit("ms"), Field(ge=1_000)] = 120_000
    """A model that a worker cannot verify, open and try within this time is refused."""

    @model_validator(mode="after")
    def _verifiable(self) -> Self:
        if self.require_signature and not self.trusted_keys:
            raise ValueError("require_signature needs trusted_keys to check signatures with")
        return self

    @property
    def signature_required(self) -> bool:
        """Whether a model without a signature is refused."""
        required = self.require_signature
        return bool(self.trusted_keys) if required is None else required


class PrivacySettings(Section):
    """Whether users are known by pseudonyms alone; see `schemas.pseudonym`."""

    pseudonym_key: SecretStr | None = None
    """Secret text of at least 32 bytes (`openssl rand -hex 32`). With it `produce` sends pseudonyms
    and a worker replaces every user id before it stores or writes anything."""
    pseudonym_key_file: Path | None = None
    """File that holds the pseudonym_key and nothing else."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        one_source(self.pseudonym_key, self.pseudonym_key_file, "pseudonym_key")
        return self

    @cached_property
    def pseudonyms(self) -> Pseudonyms | None:
        """What replaces user ids, None without a key; a key file is read once.

        Raises:
            SettingsError: the key cannot be read or is too short.
        """
        key = read_secret(self.pseudonym_key, self.pseudonym_key_file, "privacy.pseudonym_key")
        if key is None:
            return None
        if len(key.encode()) < MIN_KEY_BYTES:
            raise SettingsError(
                f"privacy.pseudonym_key has {len(key.encode())} bytes, at least {MIN_KEY_BYTES} are"
                " needed: make one with `openssl rand -hex 32`"
            )
        return Pseudonyms(key.encode())

    def stored_id(self, user_id: str) -> str:
        """The id under which a user is known in state and outputs.

        Raises:
            SettingsError: the key cannot be read or is too short.
        """
        return self.pseudonyms.of(user_id) if self.pseudonyms else user_id
