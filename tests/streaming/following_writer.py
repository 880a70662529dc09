"""A process that stores events by way of a log and prints the number of each once it is acknowledged.

python following_writer.py STORE LOG FIRST
"""

import sys
from itertools import count

from louder.histories import open_store
from louder.streaming import FollowingStore
from tests.streaming.records_of import done


def main() -> None:
    url, folder, first = sys.argv[1:]
    store = open_store(url)
    following = FollowingStore(store, folder, every_s=0.05, tell=lambda _: None)
    for number in count(int(first)):
        following.append([done(number, user=1 + number % 3)])
        print(number, flush=True)


if __name__ == "__main__":
    main()
