"""What is shipped, and whether anything known speaks against it.

Writes a software bill of materials (CycloneDX JSON) from the locked requirements, which needs no
network, and asks an advisory source about every package in it. Where none can be reached it says
so: then nothing was audited, which is no finding and no failure.

    python deploy/audit.py build/sbom.cdx.json
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "local.txt"
"""All that runs: worker, trainer and outcomes, and the embedded broker beside them."""
SOURCE = "osv"
BIN = Path(sys.executable).parent
UNREACHABLE = re.compile(r"ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError")


def locked() -> dict[str, str]:
    """Package -> version, as the lock has them."""
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", LOCK.read_text("utf-8"), re.MULTILINE)
    return {name.lower(): version for name, version in pins}


def write_bill(path: Path) -> int:
    """Write the bill of materials and return the number of components.

    Raises:
        SystemExit: it cannot be made, or lacks a locked package.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603 - a fixed program and our own paths
        [
            str(BIN / "cyclonedx-py"),
            *("requirements", str(LOCK), "--pyproject", str(ROOT / "pyproject.toml")),
            *("--output-reproducible", "--of", "JSON", "-o", str(path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"no bill of materials: {_last_line(done.stderr)}")
    components = json.loads(path.read_text("utf-8"))["components"]
    listed = {each["name"].lower(): each["version"] for each in components}
    if listed != locked():
        wrong = sorted(set(listed.items()) ^ set(locked().items()))
        sys.exit(f"the bill of materials and {LOCK.name} differ: {wrong}")
    return len(components)


def audit() -> int:
    """Ask about known vulnerabilities, print what comes of it, and return the exit status."""
    done = subprocess.run(  # noqa: S603 - a fixed program and our own paths
        [
            str(BIN / "pip-audit"),
            *("--vulnerability-service", SOURCE, "--timeout", "10", "--progress-spinner", "off"),
            *("--disable-pip", "--require-hashes", "-r", str(LOCK), "--format", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        if UNREACHABLE.search(done.stderr):
            print(f"NOT AUDITED: the advisory source {SOURCE} cannot be reached from here")
            return 0
        sys.exit(f"the audit failed: {_last_line(done.stderr)}")
    found = [(each, vuln) for each in packages for vuln in each.get("vulns", [])]
    for package, vuln in found:
        fixed = ", ".join(vuln["fix_versions"]) or "none yet"
        print(f"{package['name']} {package['version']}: {vuln['id']}, fixed in: {fixed}")
    print(f"{len(packages)} packages audited, {len(found)} known vulnerabilities")
    return 1 if found else 0


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


if __name__ == "__main__":
    bill = Path(sys.argv[1])
    print(f"{bill}: {write_bill(bill)} components")
    sys.exit(audit())
