from pathlib import Path

from stream.config.catalog import settings_of
from stream.config.reference import reference, write_reference
from stream.config.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_is_what_the_models_say():
    written = PAGE.read_text(encoding="utf-8")
    assert written == reference(), "run `intentstream config reference --out docs/settings.md`"


def test_every_setting_has_an_entry_with_its_variable():
    page = reference()
    for setting in settings_of(Settings):
        entry = page.partition(f"### `{setting.name}`\n")[2].partition("\n#")[0]
        assert f"- Environment: `{setting.variable}`" in entry, setting.name
        assert f"- Type: {setting.kind}" in entry, setting.name


def test_no_line_is_longer_than_120_characters():
    assert [line for line in reference().splitlines() if len(line) > 120] == []


def test_a_second_write_changes_nothing(tmp_path):
    assert write_reference(tmp_path / "settings.md")
    assert not write_reference(tmp_path / "settings.md")
