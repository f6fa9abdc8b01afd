"""Runs a program as systemd does for a socket unit: the socket outlives a restart.

    unit.py ADDRESS PORT PROGRAM FLAG...

SIGHUP restarts the program, SIGTERM stops it, SIGUSR1 kills it. Prints a line at every
start. Ends, and closes the socket, when the program ends in another way.
"""

import os
import signal
import socket
import sys

address, port, *command = sys.argv[1:]
listener = socket.create_server((address, int(port)), backlog=4096)
child, restarting = 0, False


def on_signal(number, _):
    global restarting
    restarting = number == signal.SIGHUP
    # 0 is the whole group.
    if child:
        os.kill(child, signal.SIGKILL if number == signal.SIGUSR1 else signal.SIGTERM)


for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, on_signal)
while True:
    restarting = False
    child = os.fork()
    if child == 0:
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        passed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        os.execve(command[0], command, {**os.environ, **passed})
    print("started", flush=True)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0 or not restarting:
        sys.exit(0 if status == 0 else 1)
