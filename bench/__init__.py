"""How fast Keyturn is, as ratios: each figure beside what the same cores can do at best, in the same run.

A figure alone says what machine it was; a ratio says what the service costs. `python -m bench` (or `make bench`)
measures both worlds, SQLite and PostgreSQL with Redis, and prints one table.

How it stays fair:

- One core belongs to the service: its event loop and its one hashing thread. What it is compared with (the bare
  Argon2id loop, the bare FastAPI application) runs on that same core, in turn with it. Another core belongs to the
  rest: this process, which makes the load, and PostgreSQL and Redis.
- Rounds alternate, so that a neighbour's noise meets both sides; the table has the median of the rounds' ratios
  and, in brackets, the smallest and the largest.
- Every request that is measured is answered 200, or the run stops. Nothing is shed except by the storm.
- Limits that would refuse one address thousands of logins are off; they count all the same.

`load.py` makes load, `worlds.py` starts what is measured, `measures.py` measures, `bare.py` and `hashing.py` are
what it is compared with.
"""
