#!/usr/bin/env bash
# Version: river 0.26.1.
# Behaviour: river 0.26.1, drift.ADWIN: whether a change is found depends on the unit of the values,
# which a two-sample test on a window would not care about. The same shift (0.2 to 0.8) is found
# after two dozen values as it is, after 1,431 in hundredths, and never in thousandths. No warning,
# and `n_detections`, the counter of what it found, stays 0 even where `drift_detected` was True.
#
# Output seen (10,000 values of one seed, the shift at 5,000):
#   x 1: detected at [5023], n_detections 0
#   x 0.01: detected at [6431], n_detections 0
#   x 0.001: detected at [], n_detections 0
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
python_with river==0.26.1

"$PYTHON" - <<'END'
import random
from river.drift import ADWIN

found = {}
for scale in (1, 0.01, 0.001):
    draw, adwin = random.Random(1), ADWIN()
    found[scale] = []
    for number in range(10_000):
        adwin.update(draw.gauss(0.2 if number < 5_000 else 0.8, 0.05) * scale)
        if adwin.drift_detected:
            found[scale].append(number)
    print(f"x {scale}: detected at {found[scale]}, n_detections {adwin.n_detections}")
    assert adwin.n_detections == 0
assert found == {1: [5023], 0.01: [6431], 0.001: []}
END
