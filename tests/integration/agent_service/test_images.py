"""Pictures on their way to each kind of model."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from shared.contracts.chat import MAX_BASE64_CHARACTERS, MAX_IMAGE_BYTES, MAX_IMAGES
from tests.factories.turns import events_in, text_of, turn
from tests.fakes.scripted_model import ScriptedModelServer

PNG = base64.b64encode(b"a picture").decode()
GIF = base64.b64encode(b"a moving picture").decode()
IMAGES = [{"media_type": "image/png", "data": PNG}, {"media_type": "image/gif", "data": GIF}]


def showing(images: Any, **model: object) -> dict[str, Any]:
    body = turn("Look", **model)
    body["messages"][0]["images"] = images
    return body


async def asked(agent: httpx.AsyncClient, model: ScriptedModelServer, body: dict[str, Any]) -> dict[str, Any]:
    """What the model's server is sent."""
    model.forget()
    answer = await agent.post("/v1/chat", json=body)
    assert text_of(events_in(answer.text)).startswith("You said: Look"), answer.text
    sent: dict[str, Any] = model.stats()["requests"][0]["body"]
    return sent


async def test_openai_gets_data_urls(agent: httpx.AsyncClient, scripted_model: ScriptedModelServer) -> None:
    sent = await asked(agent, scripted_model, showing(IMAGES))

    assert sent["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{GIF}"}},
            ],
        }
    ]


async def test_gemini_gets_what_it_takes_and_is_told_of_the_rest(
    agent: httpx.AsyncClient, scripted_model: ScriptedModelServer
) -> None:
    sent = await asked(agent, scripted_model, showing(IMAGES, provider="google_genai"))

    [content] = sent["contents"]
    [text, picture] = content["parts"]
    assert text["text"] == "Look\n[image: not shown to this model]"
    assert picture == {"inlineData": {"data": PNG, "mime_type": "image/png"}}


@pytest.mark.parametrize("provider", ["openai", "google_genai"])
async def test_a_turn_without_pictures_is_plain_text(
    agent: httpx.AsyncClient, scripted_model: ScriptedModelServer, provider: str
) -> None:
    sent = await asked(agent, scripted_model, turn("Look", provider=provider))

    if provider == "openai":
        assert sent["messages"] == [{"role": "user", "content": "Look"}]
    else:
        assert sent["contents"] == [{"parts": [{"text": "Look"}], "role": "user"}]


async def test_the_most_that_a_turn_may_have_is_taken(
    agent: httpx.AsyncClient, scripted_model: ScriptedModelServer
) -> None:
    each = base64.b64encode(b"x" * (MAX_IMAGE_BYTES // MAX_IMAGES)).decode()
    images = [{"media_type": "image/jpeg", "data": each}] * MAX_IMAGES

    sent = await asked(agent, scripted_model, showing(images))

    assert len(sent["messages"][0]["content"]) == 1 + MAX_IMAGES


@pytest.mark.parametrize(
    "images",
    [
        [],
        "x",
        [{"media_type": "image/svg+xml", "data": PNG}],
        [{"media_type": "image/png", "data": ""}],
        [{"media_type": "image/png", "data": "a picture"}],
        [{"media_type": "image/png", "data": "data:image/png;base64,AAAA"}],
        [{"media_type": "image/png", "data": PNG, "url": "https://example.org"}],
        [{"media_type": "image/png", "data": PNG}] * (MAX_IMAGES + 1),
        [{"media_type": "image/png", "data": "A" * (MAX_BASE64_CHARACTERS + 1)}],
        [{"media_type": "image/png", "data": "A" * (MAX_BASE64_CHARACTERS // 2 + 4)}] * 2,
    ],
    ids=lambda images: repr(images)[:60],
)
async def test_what_is_no_picture_or_too_much_is_refused(agent: httpx.AsyncClient, images: Any) -> None:
    answer = await agent.post("/v1/chat", json=showing(images))

    assert answer.status_code == 422
    assert answer.json()["code"] == "validation-failed"
    assert len(answer.content) < 20_000


async def test_only_people_show_pictures(agent: httpx.AsyncClient) -> None:
    body = showing(IMAGES)
    body["messages"].append({"role": "assistant", "content": "Here", "images": IMAGES})

    assert (await agent.post("/v1/chat", json=body)).status_code == 422


async def test_pictures_of_several_messages_count_together(agent: httpx.AsyncClient) -> None:
    body = showing(IMAGES[:1] * 5)
    body["messages"].append(body["messages"][0])

    assert (await agent.post("/v1/chat", json=body)).status_code == 422
