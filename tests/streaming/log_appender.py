"""A process that appends events and prints the number of each once it is acknowledged: python log_appender.py FOLDER FIRST"""

import sys
from itertools import count

from louder.streaming import LogWriter
from tests.streaming.records_of import done


def main() -> None:
    folder, first = sys.argv[1], int(sys.argv[2])
    with LogWriter(folder, partitions=2, segment_bytes=2_000) as log:
        for number in count(first):
            log.append([done(number, user=1 + number % 3)])
            print(number, flush=True)


if __name__ == "__main__":
    main()
