#!/usr/bin/env bash
# Version: faust-streaming 0.15.3.
# Behaviour: faust-streaming 0.15.3: `topic.send(key=..., value=None)` is no tombstone. The default
# serializer is JSON, and None becomes the four bytes `null`, also on a topic of `value_type=bytes`,
# whose own bytes pass unchanged. In a compacted topic the key is kept for ever instead of being
# deleted. Only `value_serializer="raw"` sends no value.
#
# Output seen (what a producer is handed for None):
#   plain: b'null'
#   value_type=bytes: b'null'
#   a Record: b'null'
#   value_serializer='raw': None
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
python_with faust-streaming==0.15.3

"$PYTHON" - <<'END'
import faust

app = faust.App("shop", broker="kafka://127.0.0.1:1")  # nothing is sent


class View(faust.Record):
    item: str


topics = {
    "plain": app.topic("a"),
    "value_type=bytes": app.topic("b", value_type=bytes),
    "a Record": app.topic("c", value_type=View),
    "value_serializer='raw'": app.topic("d", value_serializer="raw"),
}
seen = {}
for name, topic in topics.items():
    seen[name], _ = topic.prepare_value(None, topic.value_serializer, schema=topic.schema)
    print(f"{name}: {seen[name]!r}")
passed, _ = topics["value_type=bytes"].prepare_value(b"kept", topics["value_type=bytes"].value_serializer)
assert passed == b"kept"
assert list(seen.values()) == [b"null", b"null", b"null", None]
END
