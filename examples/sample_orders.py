"""Write a shop's order lines as CSV, to try the tutorial without a file of your own.

python examples/sample_orders.py --customers 1500 > orders.csv

The lines are those of UCI Online Retail (data/README.md), of the first customers by number. Times
are shifted by whole days, so that the last order is of yesterday. Cancellations are left out.
"""

from __future__ import annotations

import argparse
import csv
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

DATA = Path(__file__).parents[1] / "data" / "online_retail_uci.parquet"
HEADER = ("order", "customer", "ordered_at", "sku", "units", "unit_price")


def write(customers: int, today: datetime) -> int:
    """Write the lines of so many customers to standard output and return how many there are."""
    table = pq.read_table(DATA)
    bought = pc.and_(pc.greater(table["Quantity"], 0), pc.greater(table["UnitPrice"], 0))
    table = table.filter(pc.and_(bought, pc.is_valid(table["CustomerID"])))
    chosen = pc.unique(table["CustomerID"]).sort().slice(0, customers)
    table = table.filter(pc.is_in(table["CustomerID"], chosen)).sort_by("InvoiceDate")
    shift = timedelta(days=(today.date() - pc.max(table["InvoiceDate"]).as_py().date()).days - 1)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(HEADER)
    for line in table.to_pylist():
        moment = line["InvoiceDate"] + shift
        out.writerow(
            (
                line["InvoiceNo"],
                int(line["CustomerID"]),
                moment.isoformat(sep=" "),
                line["StockCode"],
                int(line["Quantity"]),
                line["UnitPrice"],
            )
        )
    return table.num_rows


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--customers", type=int, default=1500)
    options = parser.parse_args()
    lines = write(options.customers, datetime.now(UTC))
    print(f"{lines} order lines", file=sys.stderr)


if __name__ == "__main__":
    main()
