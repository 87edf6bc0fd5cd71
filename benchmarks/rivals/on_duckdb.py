"""The workloads that are easy in SQL, with DuckDB on two threads.

python on_duckdb.py WORKLOAD DATA_DIR OUTPUT
"""

import sys

import duckdb

QUERIES = {
    "count": "SELECT 'records', count(*) FROM records",
    "os": "SELECT value->>'$.info.OS' AS os, count(*) FROM records GROUP BY os ORDER BY os",
    "ids": "SELECT key, count(*) FROM records GROUP BY key ORDER BY key",
}
RECORDS = """
CREATE VIEW records AS SELECT * FROM read_csv(
    '{data_dir}/*/*/*/*/*.gz', delim = '\t', quote = '', escape = '', header = false,
    auto_detect = false, columns = {{'key': 'VARCHAR', 'value': 'VARCHAR'}})
"""
COPY = "COPY ({query}) TO '{output}' (FORMAT csv, DELIMITER '\t', QUOTE '', HEADER false)"


def main(workload, data_dir, output):
    connection = duckdb.connect(config={"threads": 2})
    connection.execute(RECORDS.format(data_dir=data_dir))
    connection.execute(COPY.format(query=QUERIES[workload], output=output))


if __name__ == "__main__":
    main(*sys.argv[1:])
