"""Ids that can be no user's are refused before any request is sent."""

from __future__ import annotations

import io

import pytest

from schemas.events import MAX_ID_LENGTH
from stream.cli.main import main
from stream.config.settings import Settings
from stream.errors import EraseError
from stream.operations.forgetting import check_ids, forget

LONG = "x" * (MAX_ID_LENGTH + 1)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "no user is named"),
        ([""], "user 1 of 1 is empty"),
        (["  \t"], "user 1 of 1 is empty"),
        (["ann", "", "bob"], "user 2 of 3 is empty: nothing was asked for, of the others neither"),
        (["ann", LONG], f"user 2 of 2, x+...: 257 characters, an id has at most {MAX_ID_LENGTH}"),
        (["\udcff"], "no UTF-8 text"),
    ],
)
async def test_bad_id_is_refused(ids: list[str], said: str) -> None:
    with pytest.raises(EraseError, match=said):
        check_ids(ids)
    with pytest.raises(EraseError, match=said):
        await forget(Settings(kafka={"bootstrap_servers": "127.0.0.1:1"}), ids, wait_s=0)


def test_ids_that_events_may_have_are_accepted() -> None:
    check_ids(["ann", " a b ", "\u00e9" * MAX_ID_LENGTH, LONG[:-1]])


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ([""], "", "user 1 of 1 is empty"),
        (["ann", LONG], "", "at most 256"),
        (["-"], "\n\n", "no user is named"),
        (["-"], f"ann\n{LONG}\n", "user 2 of 2"),
    ],
)
def test_command_fails_before_it_looks_for_a_broker(
    arguments: list[str],
    stdin: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    with pytest.raises(SystemExit) as ended:
        main(["erase", *arguments, "--bootstrap-servers", "127.0.0.1:1"])
    assert ended.value.code == 1
    assert said in capsys.readouterr().err
