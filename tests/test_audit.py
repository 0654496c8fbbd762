"""The bill of materials is that of the lock; an audit that was not made does not look like one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.deployed import program

ROOT = Path(__file__).parent.parent


@pytest.fixture
def audit() -> ModuleType:
    return program("audit.py")


@pytest.mark.full
def test_the_bill_lists_every_locked_package_with_its_hashes(audit, tmp_path) -> None:
    path = tmp_path / "build" / "sbom.json"
    count = audit.write_bill(path)
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "intentstream"
    assert count == len(audit.locked()) > 50
    torch = next(each for each in bill["components"] if each["name"] == "torch")
    assert torch["purl"].startswith("pkg:pypi/torch@")
    assert torch["externalReferences"][0]["hashes"][0]["alg"] == "SHA-256"


@pytest.mark.full
def test_a_package_that_the_bill_lacks_is_an_error(audit, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(audit, "locked", lambda: {"torch": "0"})
    with pytest.raises(SystemExit, match="differ"):
        audit.write_bill(tmp_path / "sbom.json")


PACKAGES = [{"name": "a", "version": "1", "vulns": []}]
HIT = {"id": "X-1", "fix_versions": ["2"]}


@pytest.mark.parametrize(
    ("out", "error", "status", "said"),
    [
        ({"dependencies": PACKAGES}, "", 0, "1 packages audited, 0 known"),
        ({"dependencies": [PACKAGES[0] | {"vulns": [HIT]}]}, "", 1, "a 1: X-1, fixed in: 2"),
        (None, "x\nrequests.exceptions.ConnectionError: no name", 0, "NOT AUDITED"),
        (None, "ERROR: cannot parse", "cannot parse", ""),
    ],
)
def test_what_an_audit_comes_to(audit, monkeypatch, capsys, out, error, status, said) -> None:
    done = subprocess.CompletedProcess([], 1, json.dumps(out) if out else "", error)
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: done)
    if isinstance(status, str):
        with pytest.raises(SystemExit, match=status):
            audit.audit()
        return
    assert audit.audit() == status
    assert said in capsys.readouterr().out
