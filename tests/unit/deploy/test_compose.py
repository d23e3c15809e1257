"""`docker-compose.yml`, its images, its nginx and its environment fit each other, the settings and the specification.

That it works is another question: `tests/faults/test_deployment.py` runs its commands.
"""

from __future__ import annotations

import json
import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic_settings import BaseSettings

from agent_service.config import AgentSettings
from chat_api.config import ApiSettings

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
NGINX = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text()
EXAMPLE = (ROOT / "deploy" / "env.example").read_text()

APIS = {name for name in SERVICES if name.startswith("api-")}
OURS = {name for name, service in SERVICES.items() if "build" in service}
JOBS = {"roles", "migrate", "tools"}


def variables(settings: type[BaseSettings]) -> set[str]:
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else f"COLLOQUY_{name.upper()}"
        for name, field in settings.model_fields.items()
    }


def asked_for(text: str) -> dict[str, str]:
    """Variable → what Compose does without it: `:?` refuses, `:-` has a default, which follows."""

    return dict(re.findall(r"\$\{(\w+)(:[?-][^}]*)\}", text))


def stages() -> dict[str, list[str]]:
    """The instructions of each target of the Dockerfile, those of what it is built on in front."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines():
        if begun := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            current = found[begun[2]] = list(found.get(begun[1], []))
        elif line and not line.startswith("#"):
            current.append(line)
    return found


def last(instructions: list[str], name: str) -> str:
    return [line.removeprefix(f"{name} ") for line in instructions if line.startswith(f"{name} ")][-1]


def nginx_seconds(directive: str) -> list[float]:
    return [float(value) for value in re.findall(rf"^\s*{directive} (\d+)s;", NGINX, re.MULTILINE)]


# ---- the file


def test_it_is_what_the_specification_says() -> None:
    schema = files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json").read_text()
    jsonschema.validate(DOCUMENT, json.loads(schema))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_tells_how_it_is(name: str) -> None:
    service = SERVICES[name]
    if name in JOBS:
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0].startswith("CMD")


@pytest.mark.parametrize("name", sorted(OURS | {"nginx"}))
def test_ours_have_no_rights_that_they_do_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_images_of_others_have_a_version() -> None:
    for name in SERVICES.keys() - OURS:
        tag = SERVICES[name]["image"].partition(":")[2]
        assert tag not in ("", "latest"), name


def test_only_nginx_is_open_to_others() -> None:
    open_ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert open_ports.pop("nginx") == ["${COLLOQUY_PORT:-8000}:8080"]
    for ports in open_ports.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)
    assert DOCUMENT["networks"]["stores"]["internal"] is True
    assert SERVICES["postgres"]["networks"] == SERVICES["valkey"]["networks"] == ["stores"]
    assert "stores" not in SERVICES["nginx"]["networks"]


def test_each_knows_only_the_secrets_that_it_needs() -> None:
    def secrets_of(name: str) -> set[str]:
        return {found for found in asked_for(json.dumps(SERVICES[name]["environment"])) if found in _SECRETS}

    of_an_api = {"COLLOQUY_SECRET_KEY", "COLLOQUY_SERVICE_KEY", "COLLOQUY_API_PASSWORD", "VALKEY_PASSWORD"}
    for name in (*APIS, "worker"):
        assert secrets_of(name) == of_an_api
    assert secrets_of("agent") == {"COLLOQUY_SERVICE_KEY", "COLLOQUY_AGENT_PASSWORD"}
    assert [name for name in SERVICES if "POSTGRES_PASSWORD" in json.dumps(SERVICES[name])] == ["postgres", "roles"]


# ---- its settings


_SECRETS = {name for name, how in asked_for((ROOT / "docker-compose.yml").read_text()).items() if how[:2] == ":?"}


def test_the_example_names_what_it_asks_for() -> None:
    named = dict(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    asked = asked_for((ROOT / "docker-compose.yml").read_text())
    assert named.keys() == asked.keys()
    assert set(re.findall(r"^([A-Z][A-Z0-9_]+)=$", EXAMPLE, re.MULTILINE)) == _SECRETS
    for name in named.keys() - _SECRETS - {"GRAFANA_PASSWORD"}:
        assert asked[name] == f":-{named[name]}", name


@pytest.mark.parametrize("name", sorted(OURS))
def test_its_settings_are_settings(name: str) -> None:
    known = variables(AgentSettings) if name == "agent" else variables(ApiSettings)
    # `FORWARDED_ALLOW_IPS` is uvicorn's.
    assert SERVICES[name]["environment"].keys() - {"FORWARDED_ALLOW_IPS"} <= known


def test_its_processes_have_room_in_the_database() -> None:
    settings = {name: field.default for name, field in ApiSettings.model_fields.items()}
    of_one = settings["db_pool_size"] + settings["db_max_overflow"] + settings["db_statement_pool_size"]
    agent = AgentSettings.model_fields["agent_db_pool_size"].default
    needed = len(APIS) * (of_one + settings["db_event_pool_size"]) + of_one + agent
    (most,) = re.findall(r"max_connections=(\d+)", " ".join(SERVICES["postgres"]["command"]))
    assert needed < int(most) - 20  # for migrations, backups, a third API and you


def test_streams_have_time_to_end() -> None:
    longest = ApiSettings.model_fields["shutdown_seconds"].default
    for name in (*APIS, "worker", "agent"):
        assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= longest + 5


# ---- its images


@pytest.mark.parametrize("name", sorted(OURS))
def test_its_image_is_in_the_dockerfile(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (build["context"], build["dockerfile"]) == (".", "deploy/Dockerfile")
    instructions = stages()[build["target"]]
    assert last(instructions, "USER") == "10001:10001"
    assert any(line.startswith("HEALTHCHECK ") for line in instructions)


@pytest.mark.parametrize(("target", "service"), [("api", "api-1"), ("agent", "agent")])
def test_images_start_and_look_after_themselves_as_here(target: str, service: str) -> None:
    instructions = stages()[target]
    assert json.loads(last(instructions, "CMD")) == SERVICES[service]["command"]
    assert (
        json.loads(last(instructions, "HEALTHCHECK").split("CMD ")[1]) == SERVICES[service]["healthcheck"]["test"][1:]
    )


def test_images_hold_every_package() -> None:
    packages = re.search(r"^packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    names = set(re.findall(r'"(\w+)"', packages[1]))
    copied = [shlex.split(line)[1:-1] for line in stages()["build"] if line.startswith("COPY ")]
    sources = {source for of_line in copied for source in of_line}
    assert names <= sources
    assert all((ROOT / source).exists() for source in sources)
    allowed = re.findall(r"^!(.+)$", (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert {source.split("/")[0] for source in sources} <= set(allowed)


# ---- its nginx


def test_nginx_knows_every_api() -> None:
    assert set(re.findall(r"^\s*server (\S+):8000 ", NGINX, re.MULTILINE)) == APIS


def test_nginx_waits_longer_than_an_answer_takes() -> None:
    (read,) = nginx_seconds("proxy_read_timeout")
    assert read > ApiSettings.model_fields["run_timeout_seconds"].default


def test_nginx_ends_idle_connections_before_the_api() -> None:
    kept = re.search(r"timeout_keep_alive=(\d+)", (ROOT / "shared" / "web" / "server.py").read_text())
    assert kept is not None
    of_upstream = nginx_seconds("keepalive_timeout")[0]
    assert of_upstream < float(kept[1])


def test_nginx_holds_nothing_back() -> None:
    assert "proxy_buffering off;" in NGINX
    assert "proxy_request_buffering off;" in NGINX
