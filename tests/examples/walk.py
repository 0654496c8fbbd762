"""The commands of README.md and docs/tutorial.md as a newcomer runs them: `make readme`.

    .venv/bin/python -m tests.examples.walk

Runs the lines of each page's `sh` blocks as they are written and in their order, in the project's
folder, each in a shell of its own. Services stay up in the background until the end of their page,
everything else must exit with 0. The two commands of the beginning and `make setup` are not run
again. Needs a clean clone with `make setup` done, kcat, and a free port 9092.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICES = re.compile(
    r"^(intentstream (worker|train --every|outcomes|watch|dashboard)|kcat -C -b"
    r"|python examples/(subscribe_predictions|act_on_churn)\.py)"
)
"""What runs until it is stopped."""
NOT_AGAIN = re.compile(r"^make (demo|test|setup)\b")
PAGES = ("README.md", "docs/tutorial.md")
TIMEOUT_S = 300
SETTLE_S = 20
"""What a service that fails needs to fail in."""


@dataclass
class Step:
    """A line of README and what came of it."""

    line: str
    process: subprocess.Popen[bytes]
    log: Path
    begun: float = field(default_factory=time.monotonic)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def lines_of(readme: str) -> list[str]:
    """The commands of the `sh` blocks, without comments; continued lines are joined."""
    found: list[str] = []
    for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL):
        joined = re.sub(r"(\\|\|)\n\s*", lambda m: "| " if m[1] == "|" else "", block)
        for line in joined.splitlines():
            command = re.sub(r"\s+#.*$", "", line).strip()
            if command:
                found.append(command)
    return found


def run(line: str, folder: Path, number: int, state: str | None = None) -> Step:
    """Start one line as a shell would, with the environment of `make setup`.

    Args:
        line: the command.
        folder: where its output is kept.
        number: its place on the page.
        state: folder of state and models, from the project's folder; None: as the settings say.
    """
    log = folder / f"{number:02}.log"
    environment = os.environ | {
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "COLUMNS": "80",
    }
    if state is not None:
        environment |= {
            "INTENTSTREAM_DATA_DIR": state,
            "INTENTSTREAM_MODELS_DIR": f"{state}/models",
        }
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["/bin/bash", "-euo", "pipefail", "-c", f"exec {line}" if _simple(line) else line],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Step(line, process, log)


def _simple(line: str) -> bool:
    return not re.search(r"[|&;]|^\.", line)


def main() -> int:
    """Walk through all pages; 0 when each line did what its page says."""
    return max([walk(page) for page in PAGES])


def walk(page: str) -> int:
    """Run all lines of a page; 0 when each did what the page says."""
    name = Path(page).stem.lower()
    folder = ROOT / "var" / f"walk-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # README is walked with the settings as they are; other pages must not meet its models.
    state = None if page == "README.md" else f"var/walk-{name}/state"
    services: list[Step] = []
    failed: list[Step] = []
    try:
        for number, line in enumerate(lines_of((ROOT / page).read_text(encoding="utf-8"))):
            if NOT_AGAIN.match(line):
                print(f"     left out  {line}", flush=True)
                continue
            step = run(line, folder, number, state)
            if SERVICES.match(line):
                services.append(step)
                _settle(step)
                ok = step.process.poll() is None
            else:
                ok = _ended(step)
            took = time.monotonic() - step.begun
            print(f"{'ok' if ok else 'FAILED':>6} {took:5.1f} s  {line}", flush=True)
            if not ok:
                failed.append(step)
        for step in services:
            if step.process.poll() not in (None, 0) and step not in failed:
                print(f"FAILED later  {step.line}", flush=True)
                failed.append(step)
    finally:
        for step in reversed(services):
            _stop(step)
        run("intentstream broker stop", folder, 99, state).process.wait(TIMEOUT_S)
    for step in services:
        print(f"--- {step.line}\n{step.said()[-1500:]}")
    for step in failed:
        print(f"--- FAILED {step.line}\n{step.said()[-3000:]}")
    return 1 if failed else 0


def _settle(step: Step) -> None:
    """Wait until a service has something to show, or has had the time to fail."""
    while time.monotonic() - step.begun < SETTLE_S and step.process.poll() is None:
        time.sleep(0.5)


def _ended(step: Step) -> bool:
    try:
        return step.process.wait(TIMEOUT_S) == 0
    except subprocess.TimeoutExpired:
        _stop(step)
        return False


def _stop(step: Step) -> None:
    if step.process.poll() is None:
        os.killpg(step.process.pid, signal.SIGINT)
        try:
            step.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(step.process.pid, signal.SIGKILL)
            step.process.wait()


if __name__ == "__main__":
    sys.exit(main())
