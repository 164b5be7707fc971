"""How fast Keyturn is: rates and response times as ratios; start, memory and the notice of a logout in units.

A rate alone depends on the machine. A ratio to the rate of a simpler program, measured on the same core in the same
run, shows what the service costs. `python -m bench` (or `make bench`) measures two configurations (`worlds`), SQLite
and PostgreSQL with Redis, and prints one table.

The comparison is fair for these reasons:

- The service has one core for its event loop and its one hashing thread. The programs of comparison (the bare
  Argon2id loop, the bare FastAPI application) are measured on the same core, while the service is idle. All other
  cores are for this process, which makes the load, and for PostgreSQL and Redis; on a machine with one core all
  processes share it. Only the start and the memory are measured on all cores, with two hashing threads.
- The service and the program of comparison are measured in turn in each round, so that other load on the machine
  affects both. The table has the median of the rounds, the smallest and the largest.
- Every measured request gets the status of success (200; 204 from `/verify` and `/logout`), or the run stops. Logins
  may be shed (503) only during a login burst.
- The limits that would refuse thousands of logins from one address are off; the service still counts the attempts.

`load.py` makes load, `worlds.py` starts the servers, `measures.py` measures, `bare.py` and `hashing.py` are the
programs of comparison.
"""
