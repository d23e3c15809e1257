"""WebSocket tickets: made, used once, refused; and credentials that are looked at again."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from chat_api.auth.actors import ALL_SCOPES, Actor, Scope
from chat_api.auth.authenticator import Authenticator
from chat_api.worker import forget_expired_tickets
from shared.problems import NotAuthenticated
from tests.factories.accounts import API, AccountsApi, Person, bearer, problem

TICKETS = f"{API}/auth/ws-ticket"


def authenticator(api: AccountsApi) -> Authenticator:
    found: Authenticator = api.app.state.authenticator
    return found


async def asked(api: AccountsApi, headers: dict[str, str]) -> httpx.Response:
    return await api.client.post(TICKETS, headers=headers)


async def ticket_of(api: AccountsApi, headers: dict[str, str]) -> str:
    answer = await asked(api, headers)
    assert answer.status_code == 200, answer.text
    ticket: str = answer.json()["ticket"]
    return ticket


async def count(api: AccountsApi) -> int:
    row = await api.database.fetch_row("SELECT count(*) AS n FROM chat.ws_tickets")
    assert row is not None
    return int(row["n"])


async def refused(api: AccountsApi, ticket: str) -> None:
    with pytest.raises(NotAuthenticated):
        await authenticator(api).authenticate_ticket(ticket)


async def test_a_ticket_is_its_makers_and_stored_as_a_hash(api: AccountsApi) -> None:
    ada = await api.person("ada")

    answer = await asked(api, ada.headers)

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {"ticket": answer.json()["ticket"], "expires_in": 30}
    row = await api.database.fetch_row("SELECT t::text AS stored, ticket_hash, expires_at FROM chat.ws_tickets t")
    assert row is not None
    assert answer.json()["ticket"] not in row["stored"]
    assert row["ticket_hash"] == hashlib.sha256(answer.json()["ticket"].encode()).digest()
    assert timedelta(seconds=25) < row["expires_at"] - api.clock.now() <= timedelta(seconds=30)

    actor = await authenticator(api).authenticate_ticket(answer.json()["ticket"])
    assert actor == Actor(ada.id, ALL_SCOPES, None)


async def test_a_ticket_of_a_key_may_what_the_key_may(api: AccountsApi) -> None:
    ada = await api.person("ada")
    key = await api.api_key(ada, "chat:read")

    actor = await authenticator(api).authenticate_ticket(await ticket_of(api, bearer(key["key"])))

    assert (actor.user_id, str(actor.api_key_id)) == (ada.id, key["id"])
    assert actor.scopes == {Scope.CHAT_READ}


async def test_who_may_not_read_gets_no_ticket(api: AccountsApi) -> None:
    ada = await api.person("ada")
    key = await api.api_key(ada, "agent:invoke")

    assert problem(await asked(api, bearer(key["key"]))) == (403, "insufficient-scope")
    assert problem(await api.client.post(TICKETS)) == (401, "not-authenticated")
    assert await count(api) == 0


async def test_a_ticket_is_good_once(api: AccountsApi) -> None:
    ada = await api.person("ada")
    ticket = await ticket_of(api, ada.headers)

    await authenticator(api).authenticate_ticket(ticket)

    await refused(api, ticket)
    assert await count(api) == 0


async def test_of_twenty_uses_at_once_one_wins(api: AccountsApi) -> None:
    ada = await api.person("ada")
    ticket, other = await ticket_of(api, ada.headers), await ticket_of(api, ada.headers)

    uses = [authenticator(api).authenticate_ticket(ticket) for _ in range(20)]
    outcomes = await asyncio.gather(*uses, return_exceptions=True)

    won = [outcome for outcome in outcomes if isinstance(outcome, Actor)]
    assert won == [Actor(ada.id, ALL_SCOPES, None)]
    assert sum(isinstance(outcome, NotAuthenticated) for outcome in outcomes) == 19
    assert (await authenticator(api).authenticate_ticket(other)).user_id == ada.id


async def test_a_ticket_expires(api: AccountsApi) -> None:
    ada = await api.person("ada")
    late, in_time = await ticket_of(api, ada.headers), await ticket_of(api, ada.headers)

    api.clock.advance(timedelta(seconds=20))
    await authenticator(api).authenticate_ticket(in_time)
    api.clock.advance(timedelta(seconds=10))

    await refused(api, late)


async def test_a_closed_account_gets_and_uses_no_ticket(api: AccountsApi) -> None:
    ada = await api.person("ada")
    ticket = await ticket_of(api, ada.headers)

    await api.close_account(ada)

    await refused(api, ticket)
    assert problem(await asked(api, ada.headers)) == (401, "not-authenticated")


async def test_a_ticket_ends_with_its_key(api: AccountsApi) -> None:
    ada = await api.person("ada")
    revoked = await api.api_key(ada, "chat:read")
    expires_at = (api.clock.now() + timedelta(seconds=10)).isoformat()
    expiring = await api.api_key(ada, "chat:read", expires_at=expires_at)
    of_revoked, of_expiring = [await ticket_of(api, bearer(key["key"])) for key in (revoked, expiring)]

    await api.client.delete(f"{API}/api-keys/{revoked['id']}", headers=ada.headers)
    api.clock.advance(timedelta(seconds=10))

    await refused(api, of_revoked)
    await refused(api, of_expiring)


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 43, "a" * 44, "a" * 10_000, "ä" * 43, "a" * 42 + "\x00", "a" * 42 + "\n"]
)
async def test_what_is_no_ticket_is_refused(api: AccountsApi, text: str) -> None:
    await refused(api, text)


async def test_an_idempotency_key_gives_no_ticket_twice(api: AccountsApi) -> None:
    ada = await api.person("ada")
    headers = ada.headers | {"Idempotency-Key": "again"}

    assert await ticket_of(api, headers) != await ticket_of(api, headers)


async def test_the_worker_forgets_what_expired(api: AccountsApi) -> None:
    ada = await api.person("ada")
    await ticket_of(api, ada.headers)
    api.clock.advance(timedelta(seconds=30))
    fresh = await ticket_of(api, ada.headers)
    context = {"database": api.database, "clock": api.clock, "settings": api.settings}

    assert await forget_expired_tickets(context) == 1
    assert await forget_expired_tickets(context) == 0

    await authenticator(api).authenticate_ticket(fresh)


# -- credentials that are looked at again ---------------------------------------------------------------------


async def signed_in(api: AccountsApi, person: Person) -> Actor:
    return await authenticator(api).authenticate(person.access_token)


async def test_those_who_may_stay_are_told_from_those_who_may_not(api: AccountsApi) -> None:
    ada, closed = await api.person("ada"), await api.person("closed")
    expires_at = (api.clock.now() + timedelta(seconds=10)).isoformat()
    live, revoked = await api.api_key(ada, "chat:read"), await api.api_key(ada, "chat:read", "chat:write")
    expiring = await api.api_key(ada, "chat:read", expires_at=expires_at)
    of_closed = await api.api_key(closed, "chat:read")
    keys = [await authenticator(api).authenticate(key["key"]) for key in (live, revoked, expiring, of_closed)]
    people = [await signed_in(api, ada), await signed_in(api, closed)]
    nobody = Actor(uuid4(), ALL_SCOPES, None)
    stolen = Actor(closed.id, ALL_SCOPES, keys[0].api_key_id)
    everybody = {*keys, *people, nobody, stolen}
    assert await authenticator(api).still_valid(everybody) == everybody - {nobody, stolen}

    await api.close_account(closed)
    await api.client.delete(f"{API}/api-keys/{revoked['id']}", headers=ada.headers)
    api.clock.advance(timedelta(seconds=10))

    assert await authenticator(api).still_valid(everybody) == {keys[0], people[0]}
    # The access token has run out long since; the person has not.
    api.clock.advance(timedelta(days=1))
    assert await authenticator(api).still_valid({people[0]}) == {people[0]}


async def test_nobody_is_looked_at_for_nobody(api: AccountsApi) -> None:
    assert await authenticator(api).still_valid(set()) == set()
