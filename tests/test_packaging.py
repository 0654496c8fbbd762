"""What is shipped: the packages with all their files, and nothing else."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "models", "stream")


def sources() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    # Built from a copy, since setuptools leaves its working files beside the sources.
    copy = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", copy)
    # A folder that a newcomer's checkout has, and that is no package of ours.
    (copy / "var").mkdir()
    (copy / "var" / "__init__.py").touch()
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (copy / "out").glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
def test_the_wheel_holds_exactly_the_packages(wheel):
    files = {name for name in wheel.namelist() if not name.endswith("/")}
    metadata = {name for name in files if ".dist-info/" in name}
    assert {name.split("/")[0] for name in metadata} == {"intentstream-0.1.0.dist-info"}
    assert files - metadata == sources()


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_marks_every_package_as_typed(wheel, package):
    # PEP 561: without the marker type checkers ignore the annotations of an installed package.
    assert f"{package}/py.typed" in wheel.namelist()


def test_every_module_folder_is_a_package():
    for name in sources():
        if name.endswith(".py"):
            assert (ROOT / name).with_name("__init__.py").exists(), name


def test_no_module_is_named_like_one_of_the_standard_library():
    names = {part.removesuffix(".py") for name in sources() for part in name.split("/")}
    assert names & (set(sys.stdlib_module_names) - {"__main__"}) == set()


@pytest.mark.slow
def test_the_metadata_names_command_versions_and_extras(wheel):
    folder = "intentstream-0.1.0.dist-info"
    assert (
        "intentstream = stream.cli.main:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    )
    metadata = BytesParser().parsebytes(wheel.read(f"{folder}/METADATA"))
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    extras = {"train", "outcomes", "evaluate", "explain", "dashboard", "local", "demo", "dev"}
    assert extras <= set(metadata.get_all("Provides-Extra"))


def test_no_extra_repeats_a_dependency_of_the_base():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {Requirement(text).name for text in project["dependencies"]}
    for extra, texts in project["optional-dependencies"].items():
        assert {Requirement(text).name for text in texts} & names == set(), extra


def test_readme_says_that_no_licence_is_chosen_yet():
    # Choosing one is the owner's decision; with it come a file, the metadata and another test.
    assert "No licence is chosen yet" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert list(ROOT.glob("LICEN[CS]E*")) == []


@pytest.mark.slow
def test_the_unpacked_wheel_runs(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop());"
        "from stream.broker.jars import locked_jars; assert locked_jars();"
        "import stream; assert stream.__file__.startswith(sys.path[0]), stream.__file__;"
        "from stream.cli.main import main; main(['--version'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "intentstream 0.1.0\n", done.stderr


@pytest.mark.parametrize("name", ["base", "train", "outcomes", "local", "dev", "docs"])
def test_every_requirement_is_pinned_with_hashes_and_no_address(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    entries = [line for line in text.splitlines() if line and line[0] not in " #"]
    assert entries
    assert all("==" in line and line.endswith("\\") for line in entries)
    assert text.count("--hash=sha256:") >= len(entries)
    assert "://" not in text
    assert "index-url" not in text


def test_the_requirement_sets_contain_each_other():
    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        return {line.split()[0] for line in text.splitlines() if line and line[0] not in " #"}

    assert pins("base") < pins("train") < pins("local") < pins("dev")
    assert pins("base") < pins("outcomes") < pins("local")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "runs"),
    [
        ("setup", "--require-hashes -r requirements/dev.txt"),
        ("demo", "--require-hashes -r requirements/local.txt"),
        ("demo", ".venv/bin/intentstream demo --headless"),
        ("test", ".venv/bin/python -m pytest"),
        ("bench", ".venv/bin/python -m benchmarks"),
        ("lint", ".venv/bin/lint-imports"),
    ],
)
def test_every_make_target_sets_up_what_it_runs(target, runs, tmp_path):
    # From a folder without .venv, as a fresh clone is; -n shows the commands without running them.
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    jars = Path("stream/broker/kafka.lock")
    (tmp_path / jars.parent).mkdir(parents=True)
    shutil.copy(ROOT / jars, tmp_path / jars)
    shown = subprocess.run(
        ["make", "-n", target, "DEMO=--headless"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "-m venv .venv" in shown
    assert "--no-deps --no-build-isolation -e ." in shown
    assert runs in shown


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["mypy", "ruff check", "ruff format", "python -m"])
def test_make_check_fails_where_one_of_its_steps_does(fails, tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    program, _, word = fails.partition(" ")
    for name in ("mypy", "ruff", "python"):
        step = tmp_path / ".venv/bin" / name
        test = f'[ "$1" != "{word}" ]' if name == program else "true"
        step.write_text(f"#!/bin/sh\n{test}\n")
        step.chmod(0o755)
    check = ["make", "-o", ".venv/.dev", "check"]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode != 0
    (tmp_path / ".venv/bin" / program).write_text("#!/bin/sh\n")
    subprocess.run(check, cwd=tmp_path, check=True)


def test_ci_runs_the_linters_the_readmes_test_command_and_the_faults():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    lines = script.read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in lines
    parts = "make lint && make docs && make audit && make soak-quick"
    beside = f'{{ {parts}; }} > "$printed/beside" 2>&1 &'
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert '-m "not full and not faults" $(TEST)' in makefile.partition("\ntest:")[2]
    both = lines[lines.index(beside) + 1 :]
    assert both.index("make test") < both.index('make test-full FULL="full or faults"'), (
        "make test, and then exactly what it leaves out"
    )
    assert lines[-1] == 'wait "$beside"', "the linters' and the soak's failure is CI's failure"
