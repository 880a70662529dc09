"""A process that appends events and prints the number of each once it is stored: python writer.py URL WRITER FIRST COUNT

Every event goes to a user of the writer's own and to one that all writers share.
"""

import sys

from louder.histories import Arrival, open_store

SHARED = 0


def main() -> None:
    url, (writer, first, count) = sys.argv[1], map(int, sys.argv[2:])
    store = open_store(url)
    for number in range(first, first + count):
        store.append(
            [Arrival(user=user, id=f"{writer}-{number}", item=number, time=number) for user in (SHARED, writer)]
        )
        print(number, flush=True)
    store.close()


if __name__ == "__main__":
    main()
