"""The tutorial's two programs: a shop's CSV becomes valid events, or says which line does not."""

from __future__ import annotations

import csv
import io

import pytest

from schemas.codec import decode_event
from schemas.events import Purchase, View
from tests.examples.support import run

pytestmark = pytest.mark.slow

FIELDS = ("--user", "who", "--time", "at")


def converted(path, text, *arguments):
    path.write_text(text, encoding="utf-8")
    done = run("csv_to_events.py", str(path), *FIELDS, *arguments)
    return done, [decode_event(line.encode()) for line in done.stdout.splitlines()]


def test_lines_become_events_with_lasting_ids(tmp_path):
    text = 'who,at,sku,n\nada,2026-03-01 12:00:00,"shoe, red",2\nbo,1735689600,,\n'
    fields = ("--field", "item_id=sku", "--field", "quantity=n", "--timezone", "Europe/Berlin")
    done, events = converted(tmp_path / "orders.csv", text, *fields)
    assert events == [
        Purchase(
            event_id="orders-2",
            user_id="ada",
            event_time=1_772_362_800_000,  # 11:00 UTC
            item_id="shoe, red",
            quantity=2,
        ),
        Purchase(event_id="orders-3", user_id="bo", event_time=1_735_689_600_000),
    ]
    assert done.stderr == ""


def test_a_column_may_hold_the_type_in_other_words(tmp_path):
    text = "who;at;what\nada;1735689600000;seen\n"
    words = ("--separator", ";", "--type-column", "what", "--rename", "seen=view")
    _, events = converted(tmp_path / "log.csv", text, *words)
    assert events == [View(event_id="log-2", user_id="ada", event_time=1_735_689_600_000)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who,when\nada,1\n", "line 1: no column at"),
        ("who,at\nada,1735689600\nada,yesterday\n", "line 3: Invalid isoformat string"),
        ("who,at,n\nada\n", "line 2: "),
    ],
)
def test_a_line_that_gives_no_event_is_named(tmp_path, text, message):
    done, _ = converted(tmp_path / "orders.csv", text)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "orders.csv is no UTF-8: name its --encoding"),
        (("--encoding", "none"), "'none' is no encoding"),
        (("--timezone", "Nowhere"), "'Nowhere' is no time zone"),
    ],
)
def test_what_is_wrong_with_the_file_is_one_line(tmp_path, options, message):
    (tmp_path / "orders.csv").write_text("who,at\nJérôme,1735689600\n", encoding="latin-1")
    done = run("csv_to_events.py", str(tmp_path / "orders.csv"), *FIELDS, *options)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    done = run("csv_to_events.py", str(tmp_path / "orders.csv"), *FIELDS, "--encoding", "cp1252")
    assert decode_event(done.stdout.strip().encode()).user_id == "Jérôme"
    done = run("csv_to_events.py", str(tmp_path / "gone.csv"), *FIELDS)
    assert done.stderr == f"{tmp_path / 'gone.csv'}: No such file or directory\n"


def test_sample_orders_are_a_csv_that_ends_yesterday():
    done = run("sample_orders.py", "--customers", "20")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.stderr == f"{len(rows)} order lines\n"
    assert len({row["customer"] for row in rows}) <= 20
    assert list(rows[0]) == ["order", "customer", "ordered_at", "sku", "units", "unit_price"]
