"""A plain install is what a worker needs; what needs more names the extra that it lacks."""

import ast
import asyncio
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

import grimp
import pytest
from aiokafka import AIOKafkaConsumer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from schemas.extras import EXTRAS, MissingExtra, missing, need
from stream.cli.program import command_modules
from stream.config.settings import TopicSettings
from stream.kafka.clients import stop_consumer
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import unique

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "models", "stream")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEED_EXTRAS = {
    "demo": "demo",
    "evaluate": "evaluate",
    "explain": "explain",
    "outcomes": "outcomes",
    "train": "train",
    "tune": "train",
}
"""Command -> the extra without which it does not begin."""


def names(texts: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in texts}


def of_extra(extra: str) -> set[str]:
    """The packages that an extra asks for, those of other extras that it contains included."""
    found = set()
    for text in PROJECT["optional-dependencies"][extra]:
        asked = Requirement(text)
        if asked.name == PROJECT["name"]:
            found.update(*(of_extra(each) for each in asked.extras))
        else:
            found.add(canonicalize_name(asked.name))
    return found


def closure(roots: list[str]) -> set[str]:
    """All packages that these requirements install here."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in roots]
    while waiting:
        asked = waiting.pop()
        for extra in ("", *asked.extras):
            name = canonicalize_name(asked.name)
            if (name, extra) in found:
                continue
            found.add((name, extra))
            try:
                needed = [Requirement(text) for text in requires(name) or ()]
            except PackageNotFoundError:  # for another platform
                continue
            waiting += [
                r for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})
            ]
    return {name for name, _ in found}


def modules_of(distributions: set[str]) -> set[str]:
    """The top-level modules of packages."""
    return {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & distributions
    }


PLAIN = """
import contextlib, importlib, io, json, sys

class Refusing:
    # Every module that a plain install does not have is not there.
    def __init__(self, known):
        self.known = known
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in self.known or top in sys.stdlib_module_names or top.startswith("_"):
            return None
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

asked = json.loads(sys.stdin.read())
sys.meta_path.insert(0, Refusing(set(asked["known"])))
for module in asked["modules"]:
    importlib.import_module(module)
from stream.cli.main import main
told = []
for arguments in asked["commands"]:
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.ExitStack() as kept:
        if not asked["shown"]:
            kept.enter_context(contextlib.redirect_stdout(out))
            kept.enter_context(contextlib.redirect_stderr(err))
        try:
            main(arguments)
        except SystemExit as ended:
            status = ended.code
    told.append([status, out.getvalue(), err.getvalue()])
json.dump(told, sys.stdout)
"""
"""What runs in a process of its own, as if only the base dependencies were installed."""


def asking(modules: list[str], commands: list[list[str]], *, shown: bool = False) -> str:
    """What PLAIN reads; `shown`: what the commands write is not kept but written."""
    known = [*PACKAGES, *modules_of(closure(PROJECT["dependencies"]))]
    asked = {"known": known, "modules": modules, "commands": commands, "shown": shown}
    return json.dumps(asked)


def in_plain_install(modules: list[str], commands: list[list[str]]) -> list[tuple[int, str, str]]:
    """Import modules, then run commands; their exit statuses, output and error output."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN],
        input=asking(modules, commands),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(status, out, err) for status, out, err in json.loads(done.stdout)]


def imported(path: Path, *, late: bool) -> Iterator[str]:
    """Modules that a file imports, when it is imported itself or also later; not for types only."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif late or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)


def plain_commands() -> dict[str, str]:
    """Command that a plain install runs -> its module."""
    return {
        name: module for name, (module, _) in command_modules().items() if name not in NEED_EXTRAS
    }


def file_of(module: str) -> Path:
    path = ROOT / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def without_extras(modules: set[str]) -> set[str]:
    """Modules of the product but for those that import an extra when they are imported."""
    extras = {module for each in EXTRAS.values() for module in each}
    return {
        name
        for name in modules
        if name.partition(".")[0] in PACKAGES
        and not {each.partition(".")[0] for each in imported(file_of(name), late=False)} & extras
    }


@pytest.mark.slow
def test_a_plain_install_has_all_commands_of_a_worker(tmp_path):
    # Each command's own imports too, which it makes when it runs.
    modules = {"stream.worker.service", "stream.worker.warming", *plain_commands().values()}
    for module in plain_commands().values():
        modules |= without_extras(set(imported(file_of(module), late=True)))
    place = ["--data-dir", str(tmp_path)]
    events = tmp_path / "events.jsonl"
    commands = [
        ["worker", *place],
        ["status", *place],
        ["topics", "create", *place],
        ["produce", str(events), "--format", "jsonl", *place],
        ["dlq", "show", *place],
        ["rates", "show", "--currency", "EUR", *place],
        ["watch", "alerts", *place],
        ["erase", "ada", *place],
        ["models", "list", "--models-dir", str(tmp_path / "models"), *place],
        ["simulate", "--events", "1000", "--users", "50", "--out", str(events), *place],
    ]
    events.write_text("{}\n")  # a file that `produce` reads and `simulate` writes over
    told = in_plain_install(sorted(modules), commands)
    for arguments, (status, _, err) in zip(commands[:8], told[:8], strict=True):
        # They have all that they need but a broker.
        assert status == 1, (arguments, err)
        assert "intentstream broker start" in err, (arguments, err)
    assert [status for status, *_ in told[8:]] == [0, 0], told[8:]
    assert len(events.read_text(encoding="utf-8").splitlines()) > 900


@pytest.mark.full
@pytest.mark.kafka
def test_a_plain_install_scores_events(kafka, tmp_path):
    app_id = unique("plain")
    # All of them: a topic that another test made with its default name may be none for a worker.
    topics = {
        name: f"{app_id}.{name}" for name, default in TopicSettings() if isinstance(default, str)
    }
    config = tmp_path / "settings.toml"
    lines = [f'{name} = "{topic}"' for name, topic in topics.items()]
    config.write_text("\n".join([f'app_id = "{app_id}"', "[topics]", "partitions = 1", *lines]))
    events = tmp_path / "events.jsonl"
    place = ["--config", str(config), "--bootstrap-servers", kafka.bootstrap_servers]
    place += ["--data-dir", str(tmp_path)]
    told = in_plain_install(
        [],
        [
            ["topics", "create", *place],
            ["simulate", "--events", "300", "--users", "20", "--out", str(events), *place],
            ["produce", str(events), "--format", "jsonl", *place],
        ],
    )
    assert [status for status, *_ in told] == [0, 0, 0], told
    log = tmp_path / "worker.log"
    with log.open("w") as lines_of_log:
        worker = subprocess.Popen(
            [sys.executable, "-c", PLAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=lines_of_log,
            text=True,
        )
        try:
            worker.stdin.write(asking([], [["worker", *place]], shown=True))
            worker.stdin.close()
            prediction = asyncio.run(first_of(kafka.bootstrap_servers, topics["propensity"]))
        finally:
            worker.terminate()
            ended = worker.wait(PATIENCE_S)
    assert prediction["user_id"].startswith("u"), log.read_text()
    assert ended == 0, log.read_text()  # and PLAIN got to its end


async def first_of(bootstrap_servers: str, topic: str) -> dict[str, object]:
    """The first message of a topic."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest"
    )
    try:
        await consumer.start()
        async with asyncio.timeout(PATIENCE_S):
            found: dict[str, object] = json.loads((await consumer.getone()).value)
            return found
    finally:
        await stop_consumer(consumer)


@pytest.mark.slow
def test_commands_name_the_extra_that_they_lack(tmp_path):
    commands = {
        "demo": ["demo"],
        "evaluate": ["evaluate", "cdnow_return"],
        "explain": ["explain", "p"],
        "outcomes": ["outcomes", "--once"],
        "train": ["train", "--from", "kafka"],
        "tune": ["tune"],
    }
    assert commands.keys() == NEED_EXTRAS.keys()
    truth = ["simulate", "--events", "1000", "--users", "50", "--truth", str(tmp_path / "truth")]
    truth += ["--out", str(tmp_path / "out"), "--data-dir", str(tmp_path)]
    *told, late = in_plain_install([], [*commands.values(), truth])
    for (name, extra), (status, out, err) in zip(NEED_EXTRAS.items(), told, strict=True):
        assert (status, out) == (1, ""), err
        said = rf"intentstream: \w+ is not installed, which `intentstream {name}` needs: "
        assert re.fullmatch(said + rf"pip install 'intentstream\[{extra}\]'\n", err), err
    status, out, err = late
    assert (status, out) == (1, "")
    assert err.startswith("intentstream: pyarrow is not installed, which what was asked for needs")
    assert err.endswith(": pip install 'intentstream[train]'\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_base_dependencies_are_what_a_worker_imports():
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    # What imports an extra when it is imported is reached by those alone who have the extra.
    own = {name for name in graph.modules if name.partition(".")[0] in PACKAGES}
    plain = without_extras(own)
    seen = set()
    waiting = {*plain_commands().values(), "stream.cli.main", "stream.worker.service"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        found = graph.find_modules_directly_imported_by(name) if name in plain else set()
        waiting |= {each for each in found if each in plain or each not in own} - seen
    assert "stream.pipeline.scoring" in seen
    assert {"models.evaluation.sources", "models.log.columnar"} & seen == set()
    others = {name.partition(".")[0] for name in seen - own}
    others -= {*sys.stdlib_module_names, *(m for e in EXTRAS.values() for m in e), "_typeshed"}
    owners = packages_distributions()
    used = {canonicalize_name(owner) for module in others for owner in owners[module]}
    assert used == names(PROJECT["dependencies"])


@pytest.mark.parametrize("name", ["aiokafka", "faust-streaming", "mode-streaming"])
def test_where_private_attributes_are_used_versions_are_bounded(name):
    (bounds,) = (
        asked.specifier for asked in map(Requirement, PROJECT["dependencies"]) if asked.name == name
    )
    installed = Version(version(name))
    assert installed in bounds
    following = f"{installed.major}.{installed.minor + 1}"
    assert following not in bounds


@pytest.mark.slow
@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_the_table_of_extras_is_that_of_pyproject(extra):
    owners = {
        module: canonicalize_name(owner) for module, (owner, *_) in packages_distributions().items()
    } | {"mlflow": "mlflow-skinny"}
    asked = of_extra(extra)
    if extra == "demo":
        asked -= of_extra("local")  # a demo on its user's own cluster does without
    assert {owners[module] for module in EXTRAS[extra]} == asked


@pytest.mark.parametrize("name", ["base", "train", "outcomes", "local"])
def test_requirements_are_those_of_pyproject(name):
    lines = (ROOT / "requirements" / f"{name}.in").read_text(encoding="utf-8").splitlines()
    asked = {line for line in lines if line[:1] not in {"#", "-"}}
    expected = {
        "base": PROJECT["dependencies"],
        "train": PROJECT["optional-dependencies"]["train"],
        "outcomes": PROJECT["optional-dependencies"]["outcomes"],
        # Its -r lines bring trainer and outcomes, setuptools installs this project itself.
        "local": [*PROJECT["optional-dependencies"]["local"], "setuptools>=80"],
    }
    assert asked == set(expected[name])


def test_need_finds_what_is_installed_and_no_module_else():
    need("train", "a test")
    with pytest.raises(KeyError):
        need("trian", "a test")


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("pyarrow.parquet", "train"),
        ("sklearn", "evaluate"),
        ("jgo", "local"),
        ("matplotlib", "evaluate"),
    ],
)
def test_a_late_import_that_fails_names_its_extra(module, extra):
    told = missing(ModuleNotFoundError("no", name=module))
    assert isinstance(told, MissingExtra)
    assert told.extra == extra
    assert f"pip install 'intentstream[{extra}]'" in str(told)


@pytest.mark.parametrize("module", ["numpy", "stream.nothing", None])
def test_an_import_that_no_extra_brings_stays_a_bug(module):
    assert missing(ModuleNotFoundError("no", name=module)) is None
