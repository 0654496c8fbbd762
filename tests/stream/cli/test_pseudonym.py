import pytest

from schemas.pseudonym import Pseudonyms
from stream.cli.main import main

KEY = "0123456789abcdef0123456789abcdef"


def test_it_prints_the_pseudonyms(monkeypatch, capsys):
    monkeypatch.setenv("INTENTSTREAM_PRIVACY__PSEUDONYM_KEY", KEY)
    with pytest.raises(SystemExit, match="0"):
        main(["pseudonym", "ann", "bob"])
    made = Pseudonyms(KEY.encode())
    assert capsys.readouterr().out.splitlines() == [made.of("ann"), made.of("bob")]


def test_without_a_key_it_says_so(capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["pseudonym", "ann"])
    assert "privacy.pseudonym_key is not set" in capsys.readouterr().err
