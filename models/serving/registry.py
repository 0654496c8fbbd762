"""The folder of published models: list, resolve, publish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.errors import ArtifactError, RegistryError
from models.inputs.features import FEATURE_VERSION
from models.serving.artifact import Golden, read_artifact, write_artifact
from models.serving.manifest import MANIFEST_FILE, VERSION_PATTERN, Manifest, read_manifest
from models.serving.signing import ManifestCheck, Sign, write_signature


@dataclass(frozen=True)
class Registry:
    """Published versions under one folder, one sub-folder each."""

    folder: Path
    """The models folder; created by the first `publish`."""

    def path(self, version: str) -> Path:
        """The folder of `version`, which need not exist.

        Raises:
            RegistryError: the name is not a version (so it can never lead out of the folder).
        """
        if not VERSION_PATTERN.fullmatch(version):
            raise RegistryError(
                f"{version!r} is not a model version: letters, digits, '.', '_' and '-' only"
            )
        return self.folder / version

    def resolve(self, version: str) -> Path:
        """The folder of a published `version`.

        Raises:
            RegistryError: it is not there; the message lists what is.
        """
        path = self.path(version)
        if not _published(path):
            known = ", ".join(self.versions()) or "none"
            raise RegistryError(
                f"{self.folder}: no model {version!r}; published here: {known}; "
                "run `intentstream train` or check --models-dir"
            )
        return path

    def versions(self) -> list[str]:
        """All published versions in order of name; incomplete ones are not among them."""
        if not self.folder.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.folder.iterdir()
            if VERSION_PATTERN.fullmatch(entry.name) and _published(entry)
        )

    def manifests(
        self, check: ManifestCheck | None = None
    ) -> Iterator[tuple[str, Manifest | ArtifactError]]:
        """Every version with its manifest, or with the error that reading it gave."""
        for version in self.versions():
            try:
                yield version, read_manifest(self.folder / version, check)
            except ArtifactError as error:
                yield version, error

    def latest(self) -> Manifest | None:
        """The readable manifest created last, None if there is none."""
        readable = [found for _, found in self.manifests() if isinstance(found, Manifest)]
        return max(readable, key=lambda found: (found.created_at, found.version), default=None)

    def publish(
        self,
        manifest: Manifest,
        script: bytes,
        golden: Golden,
        sign: Sign | None = None,
        documents: Mapping[str, bytes] | None = None,
    ) -> Manifest:
        """Write a new version, all of it or nothing, and sign it where there is a key.

        Raises:
            RegistryError: the version's name is not allowed.
            ArtifactError: it exists already or cannot be written.
        """
        folder = self.path(manifest.version)
        return write_artifact(folder, manifest, script, golden, sign, documents)

    def sign(self, version: str, sign: Sign) -> Path:
        """Sign a version that is published already, once all its digests are right.

        Returns:
            Its folder.

        Raises:
            RegistryError: it is not there.
            ArtifactError: it is damaged; nothing is signed.
            SigningError: the folder cannot be written.
        """
        folder = self.resolve(version)
        signatures: list[str] = []
        # Signed are the very bytes whose digests are verified, not what lies there afterwards.
        read_artifact(
            folder,
            feature_version=FEATURE_VERSION,
            check=lambda manifest, _: signatures.append(sign(manifest)),
        )
        write_signature(folder, signatures[0])
        return folder


def _published(folder: Path) -> bool:
    """Whether a manifest lies there, as far as this user may see."""
    try:
        return (folder / MANIFEST_FILE).is_file()
    except OSError:
        return False
