"""Redis, which may lose anything at any time, not respond, or execute a command and not respond.

The next command is the first to notice a loss, so the loss is decided at that command. Each command has an outcome
for "the value is still stored", one for "it was lost", and one for "Redis does not answer". In the last the replica
falls back to its own memory (`WithFallback`), which a restart clears. Whether Redis executed a command without an
answer is a further choice.
"""

from collections.abc import Iterator

from tests.model.flaws import Flaw
from tests.model.world import Volatile, World, count_of, counted


def claim(
    world: World, replica: int, key: tuple[int, ...], faults: frozenset[str], flaw: Flaw | None
) -> Iterator[tuple[str, bool, World]]:
    """`SET NX`: yield a text, whether the claim is the first, and the next world."""
    redis, alone = world.redis, world.alone[replica]
    claimed = world._replace(redis=redis._replace(claims=redis.claims | {key}))
    is_known = key in redis.claims
    yield ("Redis knows the claim" if is_known else "claims it in Redis"), not is_known, claimed
    if is_known and "loses" in faults:
        yield "claims it in Redis, which had lost it", True, world
    if "away" not in faults:
        return
    for was_done, before in (("", world), (" (and did it)", claimed))[: 1 if is_known else 2]:
        if flaw is Flaw.FAILS_OPEN:
            yield f"Redis does not answer{was_done}: accepted", True, before
            continue
        mine = _of_replica(before, replica, alone._replace(claims=alone.claims | {key}))
        if key not in alone.claims:
            yield f"Redis does not answer{was_done}: claims it in this process", True, mine
        else:
            yield f"Redis does not answer{was_done}: this process knows the claim", False, before
            yield f"Redis does not answer{was_done}: claims it in this process, which was restarted", True, before


def charge(
    world: World, replica: int, key: int, limit: int, faults: frozenset[str], *, read: int | None = None
) -> Iterator[tuple[str, str, World]]:
    """Count a code: yield a text, the store that holds the charge (empty: refused), and the next world.

    `read` is an earlier count, in a flaw that counts by a read and a write.
    """
    redis, alone = world.redis, world.alone[replica]
    charged = count_of(redis.charged, key)
    if read is not None:
        if read >= limit:
            yield "too many", "", world
        else:
            store = redis._replace(charged=counted(redis.charged, key, read + 1 - charged))
            yield "charges in Redis", "redis", world._replace(redis=store)
        return
    one_more = world._replace(redis=redis._replace(charged=counted(redis.charged, key, 1)))
    if charged >= limit:
        yield "Redis counts too many", "", world
    else:
        yield "charges in Redis", "redis", one_more
    if charged and "loses" in faults:
        restarted = redis._replace(charged=counted(redis.charged, key, 1 - charged))
        yield (
            "charges in Redis, which had lost the count",
            "redis",
            world._replace(redis=restarted, has_forgotten=True),
        )
    if "away" not in faults:
        return
    own = count_of(alone.charged, key)
    for was_done, before in (("", world), (" (and did it)", one_more))[: 1 if charged >= limit else 2]:
        if own >= limit:
            yield f"Redis does not answer{was_done}: this process counts too many", "", before
        else:
            mine = _of_replica(before, replica, alone._replace(charged=counted(alone.charged, key, 1)))
            text = f"Redis does not answer{was_done}: charges in this process"
            yield text, "alone", mine._replace(has_forgotten=True)


def refund(
    world: World, replica: int, key: int, charged_store: str, faults: frozenset[str]
) -> Iterator[tuple[str, World]]:
    """Refund a charge in the store that holds it. If that is Redis and it is unavailable, the charge stays."""
    if charged_store == "alone":
        alone = world.alone[replica]
        yield "is refunded", _of_replica(world, replica, alone._replace(charged=counted(alone.charged, key, -1)))
        return
    back = world._replace(redis=world.redis._replace(charged=counted(world.redis.charged, key, -1)))
    yield "is refunded in Redis", back
    if "away" in faults:
        yield "Redis does not answer: the charge stays", world


def _of_replica(world: World, replica: int, store: Volatile) -> World:
    first, second = world.alone
    return world._replace(alone=(store, second) if replica == 0 else (first, store))
