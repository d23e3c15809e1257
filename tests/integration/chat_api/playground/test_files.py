"""The files of the playground: what is served, with which headers, and where not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from chat_api.config import ApiSettings
from chat_api.main import create_app
from chat_api.playground import router
from shared.settings import Environment

FOLDER = Path(router.__file__).parent
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in {".css", ".html", ".js"})


def client(environment: Environment) -> httpx.AsyncClient:
    keys = SecretStr("k" * 32), SecretStr("s" * 32)
    settings = ApiSettings(environment=environment, secret_key=keys[0], service_key=keys[1])
    transport = httpx.ASGITransport(app=create_app(settings))
    return httpx.AsyncClient(transport=transport, base_url="http://colloquy.test")


@pytest.fixture
async def site() -> AsyncIterator[httpx.AsyncClient]:
    async with client(Environment.TEST) as site:
        yield site


@pytest.mark.parametrize("name", FILES)
async def test_every_file_is_served_under_a_strict_policy(site: httpx.AsyncClient, name: str) -> None:
    answer = await site.get(f"/playground/{name}")

    assert answer.status_code == 200
    assert answer.content == (FOLDER / name).read_bytes()
    kind = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}[Path(name).suffix]
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws: wss:"
    assert policy["img-src"] == "'self' blob: data:"


async def test_the_page_names_only_files_that_are_there(site: httpx.AsyncClient) -> None:
    page = (await site.get("/playground")).text

    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {name for name in named if not name.startswith("data:")} <= {f"playground/{name}" for name in FILES}
    assert "<style" not in page
    assert not re.search(r"<script(?![^>]* src=)", page)
    assert not re.search(r"\s(on\w+|style)=", page)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_modules_make_no_markup_and_come_from_nowhere_else(name: str) -> None:
    module = (FOLDER / name).read_text()

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", module)
    assert all(target.startswith("./") for target in re.findall(r' from "([^"]+)";', module))
    assert not re.search(r"localStorage|sessionStorage|document\.cookie", module), "tokens stay in memory"


async def test_what_has_not_changed_is_not_sent_again(site: httpx.AsyncClient) -> None:
    first = await site.get("/playground")
    again = await site.get("/playground", headers={"If-None-Match": first.headers["etag"]})
    other = await site.get("/playground", headers={"If-None-Match": '"of another version"'})

    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200


@pytest.mark.parametrize("name", ["router.py", "__init__.py", "nothing.js", "..%2Frouter.py", "%2e%2e/router.py"])
async def test_nothing_else_is_served(site: httpx.AsyncClient, name: str) -> None:
    answer = await site.get(f"/playground/{name}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_it_is_no_part_of_the_api_s_document(site: httpx.AsyncClient) -> None:
    assert "playground" not in (await site.get("/openapi.json")).text


@pytest.mark.parametrize("path", ["/playground", "/playground/connection.js"])
async def test_there_is_none_in_production(path: str) -> None:
    async with client(Environment.PRODUCTION) as production, client(Environment.STAGING) as staging:
        assert (await production.get(path)).status_code == 404
        assert (await staging.get(path)).status_code == 200
