"""Each workload written with mrjob.

python on_mrjob.py --no-conf -r local --workload WORKLOAD FILES > OUTPUT
"""

from mrjob.job import MRJob
from mrjob.protocol import RawValueProtocol
from mrjob.step import MRStep
from pairs import GROUPED, PAIRS, text


class Workload(MRJob):
    OUTPUT_PROTOCOL = RawValueProtocol

    def configure_args(self):
        super().configure_args()
        self.add_passthru_arg("--workload")

    def steps(self):
        workload = self.options.workload
        if workload == "maponly":
            return [MRStep(mapper=self.write_line)]
        if workload in GROUPED:
            return [MRStep(mapper=self.map, reducer=self.reduce)]
        mapper = self.map_many if workload == "words" else self.map
        return [MRStep(mapper=mapper, combiner=self.combine, reducer=self.write_sum)]

    def map(self, _, line):
        yield PAIRS[self.options.workload](line)

    def map_many(self, _, line):
        yield from PAIRS[self.options.workload](line)

    def write_line(self, _, line):
        yield None, text(PAIRS[self.options.workload](line))

    def combine(self, key, values):
        yield key, sum(values)

    def write_sum(self, key, values):
        yield None, text((key, sum(values)))

    def reduce(self, key, values):
        yield None, text((key, GROUPED[self.options.workload](values)))


if __name__ == "__main__":
    Workload.run()
