"""The initial program of an instance under test; run as a script, without the site's packages.

Its stdin is a socket that the test's process holds the other end of. It sends the environment that programs of
the instance have, and then waits for the end of what comes: the test's process has closed the socket, or is no
more, however it ended. Then the instance ends too.
"""

import os


def main() -> None:
    """Says what there is to say, and waits."""
    entries = [name + b"=" + value + b"\0" for name, value in os.environb.items()]
    report = b"".join([*entries, b"\0"])  # no entry is empty: two zeros in a row are the end
    while report:
        report = report[os.write(0, report) :]
    while os.read(0, 4096):
        pass


main()
