"""`intentstream schemas` from the command line."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from schemas.generate import GENERATED
from stream.cli.schemas import app


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "generated"
    shutil.copytree(GENERATED, target)
    return target


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_check_passes_on_the_committed_documents():
    result = run("check")
    assert result.exit_code == 0
    assert "up to date and compatible" in result.output


def test_check_names_what_is_outdated_and_the_remedy(folder):
    (folder / "prediction.schema.json").unlink()
    result = run("check", "--against", str(folder))
    assert result.exit_code == 1
    assert "prediction.schema.json: run `intentstream schemas generate`" in result.output


def test_check_explains_an_incompatible_change(folder):
    path = folder / "prediction.schema.json"
    text = path.read_text(encoding="utf-8").replace('"maxLength": 256', '"maxLength": 999')
    path.write_text(text, encoding="utf-8")
    result = run("check", "--against", str(folder))
    assert result.exit_code == 1
    assert "user_id: bound tightened" in result.output


@pytest.mark.slow
def test_generate_writes_every_document(tmp_path):
    result = run("generate", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert (tmp_path / "out" / "asyncapi.json").is_file()
