"""How fast Keyturn is, as ratios: each figure is compared with the best that the same cores can do, in the same run.

A figure alone depends on the machine; a ratio shows what the service costs. `python -m bench` (or `make bench`)
measures both worlds, SQLite and PostgreSQL with Redis, and prints one table.

The comparison is fair for these reasons:

- The service has one core for its event loop and its one hashing thread. The programs of comparison (the bare
  Argon2id loop, the bare FastAPI application) run on the same core, alternating with it. Another core is for the
  rest: this process, which makes the load, and PostgreSQL and Redis.
- Rounds alternate, so that other load on the machine affects both sides. The table has the median of the rounds'
  ratios and, in brackets, the smallest and the largest.
- Every measured request is answered 200, or the run stops. Requests are shed only during the login burst.
- Limits that would refuse thousands of logins from one address are off; the service still counts the attempts.

`load.py` makes load, `worlds.py` starts the servers, `measures.py` measures, `bare.py` and `hashing.py` are the
programs of comparison.
"""
