"""Builds the part of this package: passwords, known devices, the proof of a password, the policy."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from service.context import Context
from service.users.breached.check import open_breached_passwords
from service.users.credentials import Credentials
from service.users.devices import Devices
from service.users.mfa_policy import MfaPolicy
from service.users.password_policy import PasswordPolicy
from service.users.passwords import Cost, Passwords


@dataclass(frozen=True)
class UsersPart:
    passwords: Passwords
    devices: Devices
    credentials: Credentials
    policy: MfaPolicy
    password_policy: PasswordPolicy


def make_users(context: Context, make_passwords: Callable[..., Passwords], hash_cost: Cost | None) -> UsersPart:
    """Build the part. `make_passwords` is `Passwords`, or a function that returns one with spans for traces."""
    settings = context.settings
    passwords = make_passwords(concurrency=settings.hashing_threads, queue=settings.hash_queue, cost=hash_cost)
    policy = MfaPolicy(settings.require_mfa, accepts_known_devices=settings.remember_device_days > 0)
    devices = Devices(context.sealer, accepted_for=timedelta(days=settings.remember_device_days))
    return UsersPart(
        passwords=passwords,
        devices=devices,
        credentials=Credentials(
            clock=context.clock,
            database=context.database,
            throttle=context.throttle,
            passwords=passwords,
            devices=devices,
        ),
        policy=policy,
        password_policy=PasswordPolicy(
            policy,
            settings.password_min_length,
            alone=settings.min_length_alone,
            breached=open_breached_passwords(settings.breached_passwords),
        ),
    )
