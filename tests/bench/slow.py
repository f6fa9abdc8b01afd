"""Holds connections that send a byte of a request head every two seconds.

    slow.py PORT CONNECTIONS

Says so once all are there; ends when its standard input does, and says how many
the server has closed, which were opened again."""

import resource
import select
import socket
import sys
import time

PERIOD = 2.0


def opened(port):
    one = socket.create_connection(("127.0.0.1", port), timeout=10)
    one.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
    one.setblocking(False)
    return one


def main(port, count):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held = [opened(port) for _ in range(count)]
    print("ready", flush=True)
    turn = closed = 0
    while not select.select([sys.stdin], [], [], PERIOD / 100)[0]:
        # A hundredth of them at a time.
        for place in range(turn % 100, count, 100):
            try:
                held[place].send(b"a")
            except OSError:
                closed += 1
                held[place].close()
                try:
                    held[place] = opened(port)
                except OSError:
                    # No room now: the closed one fails again next time.
                    time.sleep(0.001)
        turn += 1
    print(closed)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
