"""The raw rate of Argon2id with the service's parameters. Run as `python -m bench.hashing SECONDS`.

It has one thread, with the nice value of the service's hashing threads, so that both get the same share of a busy
core.
"""

import os
import sys
import time

from argon2.low_level import Type, hash_secret_raw

from service.users.passwords import Cost


def hashes_per_second(seconds: float) -> float:
    cost, salt = Cost(), os.urandom(16)
    done, begun = -1, time.perf_counter()
    while done < 1 or time.perf_counter() - begun < seconds:
        hash_secret_raw(b"correct horse battery staple", salt, cost.passes, cost.memory_kib, cost.lanes, 32, Type.ID)
        done += 1
        if done == 0:  # the first hash is slow and is not counted
            begun = time.perf_counter()
    return done / (time.perf_counter() - begun)


if __name__ == "__main__":
    os.nice(10)
    sys.stdout.write(f"{hashes_per_second(float(sys.argv[1]))}\n")
