#!/usr/bin/env bash
# DuckDB 2.0.1, read_csv without options: where the last line is not written to its end yet (a file
# that is still growing), a small file is read as ONE column of whole lines, whose name is the whole
# header. No error, no warning, no row refused; the same rows with a complete last line are four
# columns with types. The header and every other line agree on four.
#
# Seen:
#   complete: ['user_id', 'item_id', 'price', 'event_time'], 5 rows
#   last line cut: ['user_id,item_id,price,event_time'], 6 rows
#   with the names given: refused (InvalidInputException)
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
python_with duckdb==2.0.1

"$PYTHON" - <<'END'
from pathlib import Path
import duckdb

header = "user_id,item_id,price,event_time\n"
rows = "".join(f"u{n},i{n},{n}.50,2026-01-0{n + 1} 10:00:00\n" for n in range(5))
file = Path("events.csv")


def read(text, options=""):
    file.write_text(text)
    found = duckdb.sql(f"select * from read_csv('{file}'{options})")
    return found.columns, len(found.fetchall())


complete, cut = read(header + rows), read(header + rows + "u5,i")
print(f"complete: {complete[0]}, {complete[1]} rows")
print(f"last line cut: {cut[0]}, {cut[1]} rows")
assert complete == (["user_id", "item_id", "price", "event_time"], 5)
assert cut == ([header.strip()], 6)
names = ", columns={'user_id': 'VARCHAR', 'item_id': 'VARCHAR', 'price': 'DOUBLE', 'event_time': 'TIMESTAMP'}"
try:
    print(read(header + rows + "u5,i", names))
except duckdb.Error as error:
    print(f"with the names given: refused ({type(error).__name__})")
else:
    raise SystemExit("with the names given it is not refused any more")
END
