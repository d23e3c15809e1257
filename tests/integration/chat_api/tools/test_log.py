"""The log of tools: what it shows, to whom, and in which order."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from chat_api.tools.schemas import ToolExecutionPage, ToolExecutionRead
from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.tool_calls import ARGUMENTS, PARAMETERS, tool_call, waiting_run

ERROR = {
    "type": "about:blank",
    "title": "The tool failed",
    "status": 502,
    "detail": "It said: hunter2",
    "code": "tool-failed",
    "errors": [{"loc": ["token"], "msg": "'hunter2' is too short", "type": "minLength"}],
}


async def get(chat: ChatApi, person: Person, path: str, **query: Any) -> httpx.Response:
    return await chat.client.get(f"{API}{path}", params=query, headers=person.headers)


async def test_an_execution_is_as_documented(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)

    answer = await get(chat, ann, f"/tool-executions/{run.calls[0]}")

    assert answer.status_code == 200
    execution = answer.json()
    read = ToolExecutionRead.model_validate_json(answer.content, extra="forbid")
    assert orjson.loads(read.model_dump_json()) == execution
    assert (execution["run_id"], execution["session_id"]) == (str(run.id), session["id"])
    assert (execution["tool_name"], execution["source"], execution["risk"]) == ("fetch_url", "builtin", "risky")
    assert (execution["arguments"], execution["parameters"]) == (ARGUMENTS, PARAMETERS)
    assert execution["created_at"].endswith("Z")
    assert "secret passage" not in answer.text


@pytest.mark.parametrize("result", ["High water at 14:10: hunter2", None])
async def test_what_no_log_may_show_is_not_shown(chat: ChatApi, ann: Person, session: Json, result: str | None) -> None:
    run = await waiting_run(
        chat,
        ann,
        session,
        arguments=ARGUMENTS | {"token": "hunter2"},
        redacted=("token", "absent"),
        redact_result=True,
        result=result,
        error=ERROR,
        status="running",
    )
    await chat.rows('UPDATE chat.tool_executions SET model_arguments = \'{"token": "hunter2"}\'')

    one = await get(chat, ann, f"/tool-executions/{run.calls[0]}")
    page = await get(chat, ann, f"/sessions/{session['id']}/tool-executions")

    execution = one.json()
    assert execution["arguments"] == ARGUMENTS | {"token": "[redacted]"}
    assert execution["model_arguments"] == {"token": "[redacted]"}
    assert execution["result"] == (None if result is None else "[redacted]")
    assert (execution["error"]["code"], execution["error"]["detail"]) == ("tool-failed", "[redacted]")
    assert page.json()["items"] == [execution]
    assert "hunter2" not in one.text + page.text


async def test_errors_do_not_quote_hidden_arguments(chat: ChatApi, ann: Person, session: Json) -> None:
    error = ERROR | {"detail": "See `errors`."}
    run = await waiting_run(chat, ann, session, redacted=("token",), error=error, status="running", result="Known")

    execution = (await get(chat, ann, f"/tool-executions/{run.calls[0]}")).json()

    assert "errors" not in execution["error"]
    assert (execution["error"]["detail"], execution["result"]) == ("See `errors`.", "Known")


async def test_what_may_be_shown_is_shown(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session, error=ERROR, result="High water", status="running")

    execution = (await get(chat, ann, f"/tool-executions/{run.calls[0]}")).json()

    assert (execution["error"], execution["result"]) == (ERROR, "High water")


async def test_the_log_comes_in_pages(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session, calls=5)
    elsewhere = await waiting_run(chat, ann, await chat.session(ann, reply_policy="never"))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {} if cursor is None else {"cursor": cursor}
        answer = await get(chat, ann, f"/sessions/{session['id']}/tool-executions", limit=2, **query)
        page = ToolExecutionPage.model_validate_json(answer.content)
        assert len(page.items) <= 2
        seen += [str(item.id) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == [str(call) for call in run.calls]
    assert str(elsewhere.calls[0]) not in seen
    exact = await get(chat, ann, f"/sessions/{session['id']}/tool-executions", limit=5)
    assert (len(exact.json()["items"]), exact.json()["next_cursor"]) == (5, None)


async def test_the_log_can_be_filtered(chat: ChatApi, ann: Person, session: Json) -> None:
    path = f"/sessions/{session['id']}/tool-executions"
    first = await waiting_run(chat, ann, session, status="completed", calls=1)
    second = await waiting_run(chat, ann, session, calls=1)
    done = await tool_call(chat, second.session_id, second.id, position=3, status="succeeded")

    async def ids(**query: str) -> list[str]:
        return [item["id"] for item in (await get(chat, ann, path, **query)).json()["items"]]

    assert await ids(run_id=str(second.id)) == [str(second.calls[0]), str(done)]
    assert await ids(status="succeeded") == [str(done)]
    assert await ids(status="pending_approval") == [str(first.calls[0]), str(second.calls[0])]
    assert await ids(status="pending_approval", run_id=str(second.id)) == [str(second.calls[0])]
    assert await ids(status="failed") == []
    assert problem(await get(chat, ann, path, status="nonsense")) == (422, "validation-failed")
    assert problem(await get(chat, ann, path, cursor="nonsense")) == (422, "invalid-cursor")


async def test_only_participants_read_it(chat: ChatApi, ann: Person, bob: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session)
    paths = (f"/tool-executions/{run.calls[0]}", f"/sessions/{session['id']}/tool-executions")

    codes = [problem(await get(chat, bob, path)) for path in paths]
    await chat.join(session, bob)

    assert codes == [(404, "tool-execution-not-found"), (404, "session-not-found")]
    assert [(await get(chat, bob, path)).status_code for path in paths] == [200, 200]


async def test_a_cleared_history_takes_the_log_with_it(chat: ChatApi, ann: Person, session: Json) -> None:
    run = await waiting_run(chat, ann, session, status="completed", result="High water")

    cleared = await chat.client.delete(f"{API}/sessions/{session['id']}/messages", headers=ann.headers)

    assert cleared.status_code == 204, cleared.text
    assert (await get(chat, ann, f"/sessions/{session['id']}/tool-executions")).json()["items"] == []
    assert problem(await get(chat, ann, f"/tool-executions/{run.calls[0]}")) == (404, "tool-execution-not-found")
