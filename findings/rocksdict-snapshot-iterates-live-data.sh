#!/usr/bin/env bash
# Version: rocksdict 0.3.29.
# Behaviour: rocksdict 0.3.29: a snapshot answers `snapshot[key]` from the time it was taken, and
# iterates over what the database holds when the iterator is made. Keys and values of one snapshot
# disagree: it lists a key that it then says it lacks. A copy made by way of `snapshot.items()` is
# of no moment.
#
# Output seen, with one key changed and one added after the snapshot:
#   by key: 1 -> old, 2 -> None
#   iterated: [(1, 'new'), (2, 'added')], first of iter(): (1, 'new')
#   of an iterator made before a change: new
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
python_with rocksdict==0.3.29

"$PYTHON" - <<'END'
from rocksdict import Rdict

database = Rdict("database")
database[1] = "old"
snapshot = database.snapshot()
database[1] = "new"
database[2] = "added"
try:
    by_key = snapshot[1], snapshot[2]
except Exception as error:  # rocksdict raises no KeyError here
    assert str(error) == "key not found"
    by_key = snapshot[1], None
items = list(snapshot.items())
iterator = snapshot.iter()
iterator.seek_to_first()
first = iterator.key(), iterator.value()
print(f"by key: 1 -> {by_key[0]}, 2 -> {by_key[1]}")
print(f"iterated: {items}, first of iter(): {first}")
assert by_key == ("old", None)
assert items == [(1, "new"), (2, "added")]
assert first == (1, "new")
# An iterator that was made before the change keeps to its own time.
before = snapshot.iter()
before.seek_to_first()
database[1] = "newer"
print(f"of an iterator made before a change: {before.value()}")
assert before.value() == "new"
END
