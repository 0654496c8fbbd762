#!/usr/bin/env bash
# Version: @platformatic/kafka 1.35.0.
# Behaviour: @platformatic/kafka 1.35.0: its default partitioner is murmur2 as in Kafka's Java
# client, but takes the hash as an unsigned number where Java clears the sign bit. Keys whose hash
# has that bit (half of them) go to another partition than the Java client, librdkafka's murmur2 and
# kafka-python choose; on 4, 8 or 16 partitions nobody notices, as both agree modulo a power of two.
# With 12 it shows.
#
# Output seen, of 1,000 keys:
#   partitions 8: 1000 as Java's rule has them
#   partitions 12: 499 (of 501 with the sign bit: 0)
#   partitions 12, compatibilityPartitioner: 1000
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
npm init -y > npm.log
npm install --silent --no-audit --no-fund @platformatic/kafka@1.35.0

cat > finding.mjs <<'END'
import assert from 'node:assert'
import { compatibilityPartitioner, defaultPartitioner, murmur2 } from '@platformatic/kafka'

const keys = Array.from({ length: 1000 }, (_, number) => Buffer.from(`user-${number}`))
const java = (key, partitions) => (murmur2(key) & 0x7fffffff) % partitions
const agree = (partitioner, partitions, some = keys) =>
  some.filter(key => partitioner(null, key) % partitions === java(key, partitions)).length
const signed = keys.filter(key => murmur2(key) < 0)

// murmur2 itself is Java's: a value of Kafka's own test of Utils.murmur2.
assert.strictEqual(murmur2(Buffer.from('21')), -973932308)
const seen = [8, 12].map(partitions => agree(defaultPartitioner, partitions))
console.log(`partitions 8: ${seen[0]} as Java's rule has them`)
const wrong = agree(defaultPartitioner, 12, signed)
console.log(`partitions 12: ${seen[1]} (of ${signed.length} with the sign bit: ${wrong})`)
console.log(`partitions 12, compatibilityPartitioner: ${agree(compatibilityPartitioner, 12)}`)
assert.strictEqual(seen[0], 1000)
assert.strictEqual(seen[1], 1000 - signed.length)
assert.strictEqual(wrong, 0)
assert.strictEqual(agree(compatibilityPartitioner, 12), 1000)
END
node finding.mjs
