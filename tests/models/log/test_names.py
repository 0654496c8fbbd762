"""Names of codes: once each, bounded, and able to go on elsewhere."""

from __future__ import annotations

import numpy as np

from models.log.names import Names, catalogue


def noted(names: Names, codes: list[int], kind: type = np.uint16) -> list[int]:
    """The places at which names were asked for."""
    asked: list[int] = []

    def name_at(place: int) -> str:
        asked.append(place)
        return f"n{codes[place]}"

    names.add(np.array(codes, kind), name_at)
    return asked


def test_each_new_code_is_asked_for_once_where_it_comes_first() -> None:
    names = Names()
    assert noted(names, [7, 0, 3, 7, 3]) == [2, 0]
    assert noted(names, [3, 7, 9, 9]) == [2]
    assert names.of([9, 3]) == ("n9", "n3")
    assert names.known(np.array([0, 3, 4, 7, 9, 10])).tolist() == [
        False, True, False, True, True, False,
    ]  # fmt: skip
    assert not Names().known(np.array([3])).any()


def test_what_is_seen_most_is_kept_when_room_ends() -> None:
    names = Names(room=8)
    noted(names, [5] * 9 + [6] * 7)
    for start in range(100, 200, 4):  # codes that come twice and never again
        noted(names, [5, 6, *range(start, start + 4), *range(start, start + 4)])
        assert len(names) <= 8
        assert len(names.rows()) == len(names._names) == len(names)
    assert names.known(np.array([5, 6])).all()
    assert names.of([5, 6]) == ("n5", "n6")


def test_names_go_on_elsewhere() -> None:
    names = Names(room=4)
    noted(names, [1, 1, 1, 2, 3, 3], np.uint32)
    other = Names(names.rows(), room=4)
    assert other.rows() == names.rows() == [(1, 3, "n1"), (2, 1, "n2"), (3, 2, "n3")]
    assert noted(other, [1, 4, 2**32 - 1], np.uint32) == [1, 2]
    assert [code for code, _, _ in other.rows()] == [1, 3]


def test_a_catalogue_is_of_what_is_ranked() -> None:
    assert set(catalogue(("item",))) == {"item"}
