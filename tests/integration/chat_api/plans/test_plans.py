"""Which plans there are, who gives them, and that it is noted."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from chat_api.config import ApiSettings
from chat_api.users.errors import UserNotFound
from chat_api.users.plan_changes import change_plan
from shared.problems import ValidationFailed
from tests.factories.chat import API, ChatApi, Person, problem
from tests.factories.plans import WithPlans, usage


async def admin(chat: ChatApi) -> Person:
    person = await chat.person("root")
    await chat.rows("UPDATE chat.users SET is_admin = true WHERE id = $1", person.id)
    return person


async def test_plans_are_listed_with_their_quotas(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=5, retention_days=30) as chat:
        answer = await chat.client.get(f"{API}/plans", headers=(await chat.person()).headers)

    body = answer.json()
    assert (answer.status_code, body["next_cursor"]) == (200, None)
    by_name = {plan["name"]: plan for plan in body["items"]}
    assert {"free", "pro"} <= set(by_name)
    assert (by_name["free"]["messages_per_day"], by_name["free"]["retention_days"]) == (5, 30)
    assert by_name["pro"]["messages_per_day"] is None


async def test_usage_of_somebody_who_used_nothing(with_plans: WithPlans) -> None:
    async with with_plans(messages_per_day=5) as chat:
        found = await usage(chat, await chat.person())

    assert found["plan"] == "free"
    assert found["resets_at"].endswith("T00:00:00.000000Z")
    assert found["resets_at"] > found["day"]
    assert found["messages"] == {"used": 0, "limit": 5, "remaining": 5}
    for what in ("tokens", "documents", "storage_bytes"):
        assert found[what] == {"used": 0, "limit": None, "remaining": None}


async def test_an_administrator_gives_a_plan_and_the_log_says_so(with_plans: WithPlans) -> None:
    async with with_plans() as chat:
        root, ann = await admin(chat), await chat.person("ann")
        changed = await chat.client.patch(f"{API}/admin/users/{ann.id}", json={"plan": "pro"}, headers=root.headers)
        again = await chat.client.patch(f"{API}/admin/users/{ann.id}", json={"plan": "pro"}, headers=root.headers)

        assert (changed.status_code, changed.json()["plan"], again.status_code) == (200, "pro", 200)
        assert (await usage(chat, ann))["plan"] == "pro"
        [noted] = await chat.rows("SELECT actor_id, action, subject_id, details FROM chat.audit_log")
        assert (noted["actor_id"], noted["action"], noted["subject_id"]) == (root.id, "user.plan_changed", ann.id)
        assert noted["details"] == {"from": "free", "to": "pro"}


async def test_nobody_else_may_and_nothing_else_is_taken(with_plans: WithPlans) -> None:
    async with with_plans() as chat:
        root, ann = await admin(chat), await chat.person("ann")

        async def change(person: Person, user_id: object, **body: object) -> tuple[int, str]:
            answer = await chat.client.patch(f"{API}/admin/users/{user_id}", json=body, headers=person.headers)
            return problem(answer)

        assert await change(ann, ann.id, plan="pro") == (403, "admin-required")
        assert await change(root, ann.id, plan="gold") == (422, "validation-failed")
        assert await change(root, ann.id, plan="pro", is_admin=True) == (422, "validation-failed")
        assert await change(root, "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f", plan="pro") == (404, "user-not-found")
        assert await chat.rows("SELECT 1 FROM chat.audit_log") == []
        assert (await usage(chat, ann))["plan"] == "free"


async def test_the_command_line_gives_a_plan(with_plans: WithPlans) -> None:
    async with with_plans() as chat:
        ann = await chat.person("ann")
        changed = await change_plan(chat.settings, "ANN@example.org", "pro")

        assert (changed.id, changed.plan) == (ann.id, "pro")
        [noted] = await chat.rows("SELECT actor_id, subject_id FROM chat.audit_log")
        assert (noted["actor_id"], noted["subject_id"]) == (None, ann.id)
        with pytest.raises(UserNotFound):
            await change_plan(chat.settings, "nobody", "pro")
        with pytest.raises(ValidationFailed):
            await change_plan(chat.settings, "ann", "gold")


def test_settings_without_the_plan_of_new_accounts_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLOQUY_PLANS", '{"pro": {}}')
    with pytest.raises(ValidationError, match="'free'"):
        ApiSettings(_env_file=None)
