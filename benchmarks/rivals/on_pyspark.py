"""Each workload written with PySpark, on two local threads.

python on_pyspark.py WORKLOAD DATA_DIR OUTPUT_DIR
"""

import operator
import sys

from pairs import GROUPED, PAIRS, text
from pyspark import SparkConf, SparkContext


def main(workload, data_dir, output):
    conf = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false")
    with SparkContext(conf=conf) as context:
        lines = context.textFile(f"{data_dir}/*/*/*/*/*.gz")
        if workload == "words":
            pairs = lines.flatMap(PAIRS[workload])
        else:
            pairs = lines.map(PAIRS[workload])
        if workload in GROUPED:
            pairs = pairs.groupByKey().mapValues(GROUPED[workload])
        elif workload != "maponly":
            pairs = pairs.reduceByKey(operator.add)
        pairs.map(text).saveAsTextFile(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
