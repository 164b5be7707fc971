"""An estimate for ten million users: measured costs times assumed rates. Pure; `replicas.py` writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.board import Line
from bench.costs import Cost

PEOPLE = 10_000_000
LOGINS_A_DAY = 1.0
PEAK = 4.0
"""The rate of the busiest hour, divided by the mean of the day."""
REFUSED = 0.25
"""Wrong passwords for each right one: typing errors and attackers."""
ACTIVE = 0.1
"""Fraction of all users who are active in the busiest hour. Each refreshes every ten minutes."""
REFRESH_EVERY = 600.0
LOOKS_PER_LOGIN = 1.0
LOGOUTS_PER_LOGIN = 0.5
IDLE_DAYS = 7
"""Lifetime of an unused session in days. So the logins of each day stay in the table for a week."""
EVENTS_PER_LOGIN = 1.5
EVENT_DAYS = 90
"""`events.RETENTION`, in days."""
BUSY = 0.6
"""Utilisation of a core in the busiest hour."""
POOL = 10
"""Connections of one worker to PostgreSQL, at most."""
CORES_A_REPLICA = 2
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a row with its share of the indexes."""

    users: float
    totp_authenticators: float
    sessions: float
    events: float


@dataclass(frozen=True, slots=True)
class Need:
    """Cores and rates in the busiest hour."""

    service: float
    hashing: float
    sql: float
    redis: float
    statements: float
    commits: float
    commands: float
    wal: float

    @property
    def replicas(self) -> int:
        return -(-int(100 * (self.service + self.hashing)) // (100 * CORES_A_REPLICA))


def rates(people: int = PEOPLE) -> dict[str, float]:
    """Return the requests per second in the busiest hour."""
    logins = people * LOGINS_A_DAY * PEAK / DAY
    return {
        "/login, the password": logins,
        "/login, refused": logins * REFUSED,
        "/login-2fa": logins,
        "/token": people * ACTIVE / REFRESH_EVERY,
        "/me": logins * LOOKS_PER_LOGIN,
        "/logout": logins * LOGOUTS_PER_LOGIN,
    }


HASHING = frozenset({"/login, the password", "/login, refused"})
COMMITS = {"/login-2fa": 2, "/token": 1, "/logout": 1}
"""Commits that write, of each request. A code has two: the charge of the attempt, which no rollback removes, and what
it grants. A user with more authenticators has a charge for each."""


def need(costs: Sequence[Cost], asked: Mapping[str, float]) -> Need:
    """Return the cores at `BUSY`, and the rates of the stores. Raises `KeyError` for a rate without a cost."""
    by_name = {cost.what: cost for cost in costs}
    of = {what: (by_name[what], rate) for what, rate in asked.items()}
    hashing = sum(cost.service * rate for what, (cost, rate) in of.items() if what in HASHING)
    return Need(
        service=sum(cost.service * rate for cost, rate in of.values()) / 1000 / BUSY - hashing / 1000 / BUSY,
        hashing=hashing / 1000 / BUSY,
        sql=sum(cost.sql * rate for cost, rate in of.values()) / 1000 / BUSY,
        redis=sum(cost.redis * rate for cost, rate in of.values()) / 1000 / BUSY,
        statements=sum(cost.statements * rate for cost, rate in of.values()),
        commits=sum(COMMITS.get(what, 0) * rate for what, rate in asked.items()),
        commands=sum(cost.commands * rate for cost, rate in of.values()),
        wal=sum(cost.wal * rate for cost, rate in of.values()),
    )


def gigabytes(sizes: Sizes, people: int = PEOPLE) -> dict[str, float]:
    """Return the sizes of the tables when as many rows are deleted as inserted."""
    rows = {
        "users": people,
        "totp_authenticators": people,
        "sessions": people * LOGINS_A_DAY * IDLE_DAYS,
        "events": people * LOGINS_A_DAY * EVENTS_PER_LOGIN * EVENT_DAYS,
    }
    return {table: how_many * getattr(sizes, table) / 1e9 for table, how_many in rows.items()}


def page(costs: Sequence[Cost], sizes: Sizes, lines: Sequence[Line], *, cores: int) -> str:
    """Return the text of docs/scale.md."""
    asked = rates()
    needed, held = need(costs, asked), gigabytes(sizes)
    of_cost = "\n".join(
        f"| {c.what} | {c.service:.2f} | {c.sql:.2f} | {c.redis:.2f} | {c.statements:.1f} | {c.commands:.1f}"
        f" | {c.wal:.0f} |"
        for c in costs
    )
    of_rate = "\n".join(f"| {what} | {rate:,.0f} |" for what, rate in asked.items())
    of_size = "\n".join(f"| {table} | {getattr(sizes, table):.0f} | {held[table]:,.0f} |" for table in held)
    of_lines = "\n".join(f"| {line.what} | {line.goal} | {line.reached} |" for line in lines)
    return _PAGE.format(
        cores=cores, of_cost=of_cost, of_rate=of_rate, of_size=of_size, of_lines=of_lines, people=PEOPLE, busy=BUSY,
        need=needed, pool=POOL, connections=needed.replicas * POOL, megabytes=needed.wal / 1e6, peak=PEAK,
        all_gigabytes=sum(held.values()), active=ACTIVE, refused=REFUSED, idle=IDLE_DAYS, event_days=EVENT_DAYS,
        authenticators=held["totp_authenticators"], redis=1 / needed.redis,
        share=needed.hashing / (needed.hashing + needed.service),
        minutes=REFRESH_EVERY / 60, per_replica=CORES_A_REPLICA, looks=LOOKS_PER_LOGIN, logouts=LOGOUTS_PER_LOGIN,
        events=EVENTS_PER_LOGIN,
    )  # fmt: skip


_PAGE = """# How far it scales

Measured and computed by `python -m bench.replicas --write docs/scale.md`, on {cores} cores; the text is in
`bench/estimate.py`. Run the command on a machine like yours before you rely on the figures.

## What one request costs

Milliseconds of a core of the service, of PostgreSQL and of Redis; SQL statements (`BEGIN` and `COMMIT` among them),
Redis commands (those within scripts too), bytes of write-ahead log. The last three hardly depend on the machine; they
include a little background work.
PostgreSQL ran without fsync: the time that a commit waits for the disk is not CPU time and is not included.

| request | service ms | PostgreSQL ms | Redis ms | statements | commands | WAL bytes |
|---|---|---|---|---|---|---|
{of_cost}

## A second replica

| what | goal | reached |
|---|---|---|
{of_lines}

Replicas share only the stores, so an additional replica helps as long as the stores have capacity left. To measure
this, each replica needs a core of its own, and the load and the stores need others: four cores or more.

## Ten million users

Assumed: one login with two factors per user and day; the busiest hour has {peak:.0f} times the mean; the number of
wrong passwords is {refused:.0%} of that of right ones; {active:.0%} of all users are active in that hour, and each
refreshes every {minutes:.0f} minutes; each login leads to {looks:g} `/me`, {logouts:g} `/logout` and {events:g}
events; relying services verify tokens with the key set, without requests. The
utilisation of a core is {busy:.0%}.

| request | per second, in the busiest hour |
|---|---|
{of_rate}

This needs

- **{need.hashing:.0f} cores for hashing and {need.service:.1f} for everything else** of the service: {need.replicas}
  replicas of {per_replica} cores;
- **{need.sql:.1f} cores of PostgreSQL**, for {need.statements:,.0f} statements, {need.commits:,.0f} writing commits
  and {megabytes:.1f} MB of WAL per second;
- **{need.redis:.2f} cores of Redis**, for {need.commands:,.0f} commands per second.

| table | bytes per row, including indexes | GB |
|---|---|---|
{of_size}

Total: {all_gigabytes:,.0f} GB. Unused sessions expire after {idle} days; events are kept for {event_days} days.

## What reaches its limit first, and what to do

1. **Hashing.** It takes {share:.0%} of the service's cores, by intent: each guess of an attacker takes as long as a
   login. When the queue is full, further logins are refused with 503, and requests that hash nothing are still
   answered. Add replicas. In the image, Argon2 is compiled for x86-64-v3, which is about twice as fast as the wheel
   that was measured here: [decision 6](decisions/0006-argon2-compiled-in-the-image.md).
2. **Connections.** Each worker process holds up to {pool}: {connections} in all, with one worker in each replica;
   PostgreSQL's default is 100. Raise `max_connections`, or put PgBouncer in front in [transaction
   mode](guides/postgresql.md#poolers): Keyturn recognises it, and each statement needs a second round trip. A pooler
   in session mode does not reduce the number of connections.
3. **Commits.** A code has two: one charges the attempt before the code is checked, one grants. All together,
   {need.commits:,.0f} per second are few for a disk with a power-loss-protected cache, and too many for
   a disk that takes a millisecond to sync and serves one commit at a time: PostgreSQL groups them only up to a point.
   Measure with `pg_test_fsync`. A longer `KEYTURN_ACCESS_TTL` makes refreshes rarer in proportion.
4. **The events table**, which has most of the data. Each replica deletes at most 500 old rows per second.
5. **The database metrics**: each replica reads every authenticator once in five minutes; with ten million users, that
   is a scan of {authenticators:.0f} GB.
6. **Redis** comes last: one core can serve {redis:.0f} times this load. Without Redis the service is slower,
   and its rate limits are less exact (each worker counts for itself); codes stay safe.
"""
