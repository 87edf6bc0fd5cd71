"""Convert taxi rides from CSV to Parquet, with types.

    daskmr run examples/rides_to_parquet.py -d rides -o rides.parquet

Each row is a ride: times are timestamps, distances and fares numbers, and an empty comment is null.

The data is from ``daskmr sample-data rides --kind rides``: CSV with a header, as ``2025/01/rides.csv``. There is
no ``reduce``, so ``map`` writes the rows, in the order of the input. The key is the first column, which
`output_columns` names; the entries of the dict have their own names. A row with a field that is no number raises
ValueError, so it is a bad record, which is skipped and counted.
"""

from datetime import datetime

layout = "{year:int}/{month:int}/rides.csv"
records = "csv"
output_columns = ("ride_id",)


def map(key, dims, value, context):
    ride = {
        "pickup": datetime.fromisoformat(value["pickup"]),
        "dropoff": datetime.fromisoformat(value["dropoff"]),
        "pickup_zone": value["pickup_zone"],
        "dropoff_zone": value["dropoff_zone"],
        "km": float(value["km"]),
        "passengers": int(value["passengers"]),
        "payment": value["payment"],
        "fare": float(value["fare"]),
        "tip": float(value["tip"]),
        "comment": value["comment"] or None,
    }
    context.write(int(value["ride_id"]), ride)
