#!/usr/bin/env bash
# Version: rudder-sdk-python 2.1.9, segment-analytics-python 2.4.0.
# Behaviour: rudder-sdk-python 2.1.9: a collector that answers 204 (or 201, 202) has accepted
# nothing: the very same batch, with the same messageIds, is sent again until the retries are used
# up, and then counts as failed. segment-analytics-python 2.4.0, of the same kin, takes 204 for
# success. So a collector that acknowledges without a body gets each of these events as often as the
# client may retry.
#
# Output seen (one event each, at most 3 retries):
#   segment, 200: 1 requests of 1 messageId, failed: False
#   segment, 204: 1 requests of 1 messageId, failed: False
#   rudder, 200: 1 requests of 1 messageId, failed: False
#   rudder, 204: 4 requests of 1 messageId, failed: True
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
python_with rudder-sdk-python==2.1.9 segment-analytics-python==2.4.0

"$PYTHON" - <<'END'
import gzip, json, logging, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import rudderstack.analytics.client as rudder
import segment.analytics.client as segment

logging.disable(logging.CRITICAL)


class Collector(BaseHTTPRequestHandler):
    status, ids = 200, []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        Collector.ids.append([each["messageId"] for each in json.loads(body)["batch"]])
        self.send_response(Collector.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"


def sent(name, library, status):
    Collector.status, Collector.ids, failed = status, [], []
    on_error = lambda error, batch: failed.append(error)
    client = library.Client("key", host=url, on_error=on_error, max_retries=3)
    client.track("user-1", "Product Viewed", {"product_id": "item-1"})
    client.join()
    ids = {one for batch in Collector.ids for one in batch}
    print(f"{name}, {status}: {len(Collector.ids)} requests of {len(ids)} messageId, failed: {bool(failed)}")
    return len(Collector.ids), len(ids), bool(failed)


seen = [
    sent("segment", segment, 200), sent("segment", segment, 204),
    sent("rudder", rudder, 200), sent("rudder", rudder, 204),
]
server.shutdown()
assert seen == [(1, 1, False)] * 3 + [(4, 1, True)]
END
