"""The second factor of a user as a whole. A user may prove it in several ways, each of which is a `Kind`.

A proof of the second factor is what a user presents: a verification code (`TotpCode`) or a recovery code
(`RecoveryCode`). An operation that takes a proof calls three functions of the proof's `Kind`, in this order:

1. `check` charges the attempt, then compares the proof (law 4: reserve, then verify). Nothing is granted.
2. `consume`, in the transaction that grants something, decides by the row count of one statement (law 2: a code is
   consumed, not checked).
3. `record_use`, in the same transaction, records what the use of this kind changes.

That transaction is within `released_if_unavailable`, which releases what `check` claimed if the database fails.
If `consume` returns false, the operation rolls back and raises what `refusal` returns. `OwnFactors.disable` differs
in two points: it does not call `record_use`, because it removes what was used, and it raises one error for every
refused proof. For a new kind of second factor, add its proof to `Proof` and to the body of `/login-2fa`, its class to
`KINDS`, and let `part` make one and pass it to `SecondFactors`: every operation on the whole second factor then
includes it.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, ClassVar, Protocol

from service.errors import ServiceError
from service.factors.recovery_codes import RecoveryCode, RecoveryCodes
from service.factors.totp_authenticators import TotpAuthenticator, TotpAuthenticators, TotpCode
from service.origin import Act
from service.storage.database import Transaction
from service.storage.sealing import SealedColumn
from service.users.users import User

Proof = TotpCode | RecoveryCode


class Checked(Protocol):
    """A proof that `check` accepted. Each kind has a class of its own, which only that kind reads."""

    @property
    def locks_user(self) -> bool:
        """Whether the user's row must be locked before the proof is consumed, because several rows may change."""


class Kind(Protocol):
    """One kind of second factor. `Any` stands for the proof and the checked proof of that kind."""

    proof_type: ClassVar[type[Any]]
    method: ClassVar[str]
    """Its name in the `methods` of an answer."""
    rate_limit: ClassVar[str]
    """The name under which attempts with one pending token are counted: each kind has five."""
    amr: ClassVar[tuple[str, ...]]
    """The authentication methods of a session that it opens (RFC 8176)."""
    enrolment_error: ClassVar[type[ServiceError] | None]
    """The error for its proof during an enrolment; `None` if its proof can confirm an authenticator."""
    sealed_column: ClassVar[SealedColumn | None]
    """Where its secrets are; `None` if it has none at rest. They are sealed again with a new master secret."""

    async def check(self, user: User, candidates: Sequence[TotpAuthenticator], proof: Any, act: Act) -> Any:
        """Charge one attempt and compare the proof.

        `candidates` are the user's authenticators whose codes are accepted now. Raises the kind's errors;
        `InvalidToken` if the candidates were removed; `TooManyAttempts` or `StoreUnavailable`.
        """

    def released_if_unavailable(self, checked: Any) -> AbstractAsyncContextManager[None]:
        """Release what `check` claimed if the database fails inside the block."""

    async def consume(self, transaction: Transaction, user: User, checked: Any, now: datetime) -> bool:
        """Consume the proof; true for exactly one caller, ever."""

    async def record_use(self, transaction: Transaction, user: User, checked: Any, act: Act) -> int | None:
        """Record what the use changed. Return the number of recovery codes left, if it used one."""

    async def refusal(self, user: User, checked: Any, act: Act) -> ServiceError:
        """Return the error for a proof that was checked and could not be consumed."""

    async def remove_all(self, transaction: Transaction, user_id: str) -> int:
        """Remove everything of this kind from a user. Return the number of authenticators among it."""


KINDS: tuple[type[Kind], ...] = (TotpAuthenticators, RecoveryCodes)
"""The closed set of kinds, in the order in which answers name them."""

METHODS = tuple(kind.method for kind in KINDS)
SEALED_COLUMNS = tuple(kind.sealed_column for kind in KINDS if kind.sealed_column is not None)


class SecondFactors:
    """All kinds of second factor, one of each in `KINDS`."""

    def __init__(self, totp: TotpAuthenticators, recovery_codes: RecoveryCodes, *others: Kind) -> None:
        self.totp = totp
        self.recovery_codes = recovery_codes
        self._kinds: tuple[Kind, ...] = (totp, recovery_codes, *others)
        if len(self._kinds) != len(KINDS) or not all(map(isinstance, self._kinds, KINDS)):
            raise RuntimeError("SecondFactors needs one of each kind, in the order of KINDS")

    def kind_of(self, proof: Proof) -> Kind:
        """Return the kind of second factor that the proof proves."""
        return next(kind for kind in self._kinds if isinstance(proof, kind.proof_type))

    def methods(self, *, is_confirmed: bool) -> tuple[str, ...]:
        """Return the names of the proofs that `/login-2fa` accepts with a pending token.

        Recovery codes are announced to every user whose second factor is confirmed, whether any are left or not: an
        attacker who has only the password learns nothing about them.
        """
        return tuple(kind.method for kind in self._kinds if is_confirmed or kind.enrolment_error is None)

    async def remove_all(self, transaction: Transaction, user_id: str) -> int:
        """Remove everything that proves the user's second factor. Return how many authenticators there were."""
        return sum([await kind.remove_all(transaction, user_id) for kind in self._kinds])
