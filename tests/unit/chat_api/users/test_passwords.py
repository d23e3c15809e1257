"""Password hashing with the real Argon2."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from statistics import median

import pytest

from chat_api.users.passwords import Argon2PasswordHasher, PasswordCheck

PASSWORD = "correct horse battery staple"


@pytest.fixture
def hasher() -> Iterator[Argon2PasswordHasher]:
    hasher = Argon2PasswordHasher()
    yield hasher
    hasher.close()


async def test_a_hash_is_argon2id_with_the_chosen_parameters_and_its_own_salt(hasher: Argon2PasswordHasher) -> None:
    first, second = await hasher.hash(PASSWORD), await hasher.hash(PASSWORD)

    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second


async def test_only_the_right_password_matches(hasher: Argon2PasswordHasher) -> None:
    stored = await hasher.hash(PASSWORD)

    assert await hasher.check(PASSWORD, stored) == PasswordCheck(valid=True, new_hash=None)
    for wrong in ("", PASSWORD + " ", PASSWORD[:-1], PASSWORD.upper()):
        assert await hasher.check(wrong, stored) == PasswordCheck(valid=False, new_hash=None)


async def test_the_same_letters_match_however_they_are_composed(hasher: Argon2PasswordHasher) -> None:
    stored = await hasher.hash("caf\u00e9 au lait")

    assert (await hasher.check("cafe\u0301 au lait", stored)).valid


async def test_a_hash_of_other_parameters_is_made_new(hasher: Argon2PasswordHasher) -> None:
    weak = Argon2PasswordHasher(memory_kib=64, passes=1)
    stored = await weak.hash(PASSWORD)
    weak.close()

    right, wrong = await hasher.check(PASSWORD, stored), await hasher.check("wrong password", stored)

    assert right.valid
    assert right.new_hash is not None
    assert await hasher.check(PASSWORD, right.new_hash) == PasswordCheck(valid=True, new_hash=None)
    assert wrong == PasswordCheck(valid=False, new_hash=None)


@pytest.mark.parametrize(
    "stored", ["", "!", "plain", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=1,t=1,p=1$x$y"]
)
async def test_what_is_no_hash_matches_nothing(hasher: Argon2PasswordHasher, stored: str) -> None:
    assert await hasher.check(PASSWORD, stored) == PasswordCheck(valid=False, new_hash=None)


async def test_nobody_takes_as_long_as_somebody(hasher: Argon2PasswordHasher) -> None:
    stored = await hasher.hash(PASSWORD)
    assert await hasher.check(PASSWORD, None) == PasswordCheck(valid=False, new_hash=None)

    async def seconds(hash_: str | None) -> float:
        started = time.perf_counter()
        await hasher.check("a wrong password", hash_)
        return time.perf_counter() - started

    pairs = [(await seconds(stored), await seconds(None)) for _ in range(7)]
    somebody, nobody = (median(times) for times in zip(*pairs, strict=True))

    # Wide, for a busy machine: a decoy that is refused unread would be a thousand times faster.
    assert 0.4 < nobody / somebody < 2.5


async def test_the_event_loop_turns_while_passwords_are_hashed(hasher: Argon2PasswordHasher) -> None:
    hashing = asyncio.gather(*(hasher.hash(PASSWORD) for _ in range(4)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert turns > 5
