"""Which models are signed and believed, as the settings say."""

from models.serving.signing import (
    RECALIBRATION_CONTEXT,
    ManifestCheck,
    Sign,
    TrustedKeys,
    signer,
)
from stream.config.secure_settings import ModelSettings


def manifest_check(models: ModelSettings, announced: str | None = None) -> ManifestCheck | None:
    """What refuses models that are not signed as the settings demand; None: nothing is demanded.

    The keys are read anew, so a key that was added or taken away counts from the next model on.

    Args:
        models: the settings.
        announced: signature in the announcement, where there is one.

    Raises:
        SigningError: a trusted key cannot be read.
    """
    if not models.trusted_keys:
        return None
    trusted = TrustedKeys.load(models.trusted_keys)
    return trusted.check(required=models.signature_required, announced=announced)


def model_signer(models: ModelSettings) -> Sign | None:
    """What signs the models that are published here, None without a key.

    Raises:
        SigningError: the key cannot be used.
    """
    return signer(models.signing_key) if models.signing_key else None


def recalibration_signer(models: ModelSettings) -> Sign | None:
    """What signs the recalibrations that are published here, None without a key.

    Raises:
        SigningError: the key cannot be used.
    """
    return signer(models.signing_key, RECALIBRATION_CONTEXT) if models.signing_key else None


def trusted_keys(models: ModelSettings) -> TrustedKeys | None:
    """The keys whose signatures count, read anew; None: no signature is demanded.

    Raises:
        SigningError: a trusted key cannot be read.
    """
    return TrustedKeys.load(models.trusted_keys) if models.trusted_keys else None
