"""Redis, that may lose anything at any time, refuse, or do what it was told without saying so; and what is left then.

That something was lost is noticed by the next command only, so there it is decided: each command has an outcome for
"it is still known", one for "it was lost", and one for "Redis does not answer", in which the replica goes on by
itself (`WithFallback`), whose own memory a restart loses too. Whether a command without an answer was carried out
is another choice.
"""

from collections.abc import Iterator

from tests.model.flaws import Flaw
from tests.model.world import Volatile, World, count_of, counted


def claim(
    world: World, replica: int, key: tuple[int, ...], faults: frozenset[str], flaw: Flaw | None
) -> Iterator[tuple[str, bool, World]]:
    """`SET NX`: what is noticed, whether nobody had it, and the world then."""
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
            yield f"Redis does not answer{was_done}: let in", True, before
            continue
        mine = _of_replica(before, replica, alone._replace(claims=alone.claims | {key}))
        if key not in alone.claims:
            yield f"Redis does not answer{was_done}: claims it in this process", True, mine
        else:
            yield f"Redis does not answer{was_done}: this process knows the claim", False, before
            yield f"Redis does not answer{was_done}: claims it in this process, which was restarted", True, before


def pay(
    world: World, replica: int, key: int, limit: int, faults: frozenset[str], *, read: int | None = None
) -> Iterator[tuple[str, str, World]]:
    """Count a code: what is noticed, who took the payment (nobody: refused), and the world then.

    `read` is a count that was read before, of a flaw that counts by a read and a write.
    """
    redis, alone = world.redis, world.alone[replica]
    paid = count_of(redis.paid, key)
    if read is not None:
        if read >= limit:
            yield "too many", "", world
        else:
            store = redis._replace(paid=counted(redis.paid, key, read + 1 - paid))
            yield "pays in Redis", "redis", world._replace(redis=store)
        return
    one_more = world._replace(redis=redis._replace(paid=counted(redis.paid, key, 1)))
    if paid >= limit:
        yield "Redis counts too many", "", world
    else:
        yield "pays in Redis", "redis", one_more
    if paid and "loses" in faults:
        anew = redis._replace(paid=counted(redis.paid, key, 1 - paid))
        yield "pays in Redis, which had lost the count", "redis", world._replace(redis=anew, has_forgotten=True)
    if "away" not in faults:
        return
    own = count_of(alone.paid, key)
    for was_done, before in (("", world), (" (and did it)", one_more))[: 1 if paid >= limit else 2]:
        if own >= limit:
            yield f"Redis does not answer{was_done}: this process counts too many", "", before
        else:
            mine = _of_replica(before, replica, alone._replace(paid=counted(alone.paid, key, 1)))
            text = f"Redis does not answer{was_done}: pays in this process"
            yield text, "alone", mine._replace(has_forgotten=True)


def refund(world: World, replica: int, key: int, payee: str, faults: frozenset[str]) -> Iterator[tuple[str, World]]:
    """A payment back, by whoever took it; if that is Redis and it is away, it stays paid."""
    if payee == "alone":
        alone = world.alone[replica]
        yield "is paid back", _of_replica(world, replica, alone._replace(paid=counted(alone.paid, key, -1)))
        return
    back = world._replace(redis=world.redis._replace(paid=counted(world.redis.paid, key, -1)))
    yield "is paid back by Redis", back
    if "away" in faults:
        yield "Redis does not answer: it stays paid", world


def _of_replica(world: World, replica: int, store: Volatile) -> World:
    first, second = world.alone
    return world._replace(alone=(store, second) if replica == 0 else (first, store))
