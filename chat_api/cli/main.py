"""The `colloquy` command: what it offers. Each command imports its weight only when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

if TYPE_CHECKING:
    from chat_api.config import ApiSettings

SERVICES = ("chat_api", "agent_service")


def main() -> None:
    """Run the command. Settings that cannot work exit with 2, everything else that is known with 1."""
    try:
        colloquy(prog_name="colloquy")
    except Exception as error:
        code = _told(error)
        if code is None:
            raise
        sys.exit(code)


def _told(error: Exception) -> int | None:
    """Say what is known of the error, and return the exit code for it. None: nothing is known."""
    from shared.problems import Problem
    from shared.settings import SettingsError

    match error:
        case SettingsError():
            click.echo(str(error), err=True)
            return 2
        case Problem():
            click.echo(f"{error.title}: {error.detail}", err=True)
            for item in error.errors or []:
                click.echo(f"  {'.'.join(str(part) for part in item.loc)}: {item.msg}", err=True)
            return 1
        case _:
            return None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def colloquy() -> None:
    """The conversation backend: run it, migrate it, check it."""


@colloquy.command()
@click.option("-v", "--verbose", is_flag=True, help="Show the logs of everything that runs.")
def up(*, verbose: bool) -> None:
    """Run everything on this machine: stores (unless their URLs are set), services, worker."""
    from deploy.local.errors import CannotStart
    from deploy.local.up import up as run_everything

    try:
        run_everything(verbose=verbose)
    except CannotStart as error:
        raise click.ClickException(str(error)) from None


@colloquy.command()
def api() -> None:
    """Run the chat API until it is stopped."""
    settings = _settings()
    _need_port(settings.api_host, settings.api_port, "COLLOQUY_API_PORT")
    from shared.absent import TERMINAL, absent

    with absent(*TERMINAL):
        from chat_api.main import run
    sys.exit(run(settings))


@colloquy.command()
def agent() -> None:
    """Run the agent service until it is stopped."""
    # A process of its own: the two services share no code, and this one's imports would stay in its memory.
    os.execv(sys.executable, [sys.executable, "-m", "agent_service"])  # noqa: S606 - our own interpreter


@colloquy.command()
def worker() -> None:
    """Run the worker (what is due later, and what died) until it is stopped."""
    settings = _settings()
    from shared.absent import TERMINAL, absent

    with absent(*TERMINAL):
        from chat_api.worker import run
    sys.exit(run(settings))


@colloquy.group()
def migrate() -> None:
    """Change the database's tables, as the owning role."""


@migrate.command()
@click.argument("revision", default="head")
def upgrade(revision: str) -> None:
    """Go up to REVISION (default: the newest)."""
    from chat_api.cli import migrations

    migrations.run(migrations.upgrade, _owner_url(), revision)


# Without this, `-1` would be an option that nobody knows.
@migrate.command(context_settings={"ignore_unknown_options": True})
@click.argument("revision")
def downgrade(revision: str) -> None:
    """Go back to REVISION (`-1`: one step, `base`: to the beginning)."""
    from chat_api.cli import migrations

    migrations.run(migrations.downgrade, _owner_url(), revision)


@migrate.command()
def current() -> None:
    """Show where the database is."""
    from chat_api.cli import migrations

    migrations.run(migrations.current, _owner_url())


@migrate.command()
def history() -> None:
    """List the revisions there are."""
    from chat_api.cli import migrations

    migrations.history()


@migrate.command()
@click.option("-m", "--message", required=True, help="What it changes.")
@click.option("--empty", is_flag=True, help="Do not compare the models with the database.")
def revision(message: str, *, empty: bool) -> None:
    """Write a new revision that makes the database like the models."""
    from chat_api.cli import migrations

    migrations.run(migrations.revise, _owner_url(), message, not empty)


@colloquy.command()
@click.option("--api-url", help="Address of the chat API (default: from the settings).")
@click.option("--agent-url", help="Address of the agent service (default: from the settings).")
@click.option("--content", default="Say hello in one short sentence.", show_default=True, help="The message to send.")
def check(api_url: str | None, agent_url: str | None, content: str) -> None:
    """Hold one conversation with a running pair, over HTTP alone, and say where it fails."""
    from chat_api.cli.check import SmokeTest
    from shared.settings import CommonSettings

    settings = CommonSettings.load()
    test = SmokeTest(
        (api_url or settings.chat_api_base_url).rstrip("/"), (agent_url or settings.agent_base_url).rstrip("/")
    )
    sys.exit(0 if test.run(content) else 1)


@colloquy.command()
@click.option("--service", type=click.Choice(SERVICES), default="chat_api", show_default=True)
@click.option("--sockets", is_flag=True, help="The AsyncAPI document of the chat API's WebSockets instead.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file (default: the terminal).")
def openapi(service: str, sockets: bool, output: Path | None) -> None:
    """Print a service's OpenAPI document."""
    from chat_api.cli.documents import openapi_document, sockets_document

    if sockets and service != "chat_api":
        raise click.UsageError("Only the chat API has WebSockets.")
    document = sockets_document() if sockets else openapi_document(service)
    if output is None:
        click.echo(document, nl=False)
    else:
        output.write_text(document, encoding="utf-8")


@colloquy.command("seed")
@click.option("--size", type=click.Choice(["small", "medium", "large"]), default="small", show_default=True)
@click.option("--clear", is_flag=True, help="Remove what was seeded before; nothing of anybody else's.")
@click.option("--documents-only", is_flag=True)
@click.option("--conversations-only", is_flag=True)
def seed_data(*, size: str, clear: bool, documents_only: bool, conversations_only: bool) -> None:
    """Fill the database with people, conversations and documents to try things with. Refused in production."""
    if documents_only and conversations_only:
        raise click.UsageError("--documents-only and --conversations-only leave nothing.")
    settings = _settings()
    from chat_api.cli.seeding.seed import CannotSeed, Wanted, seed
    from chat_api.cli.seeding.size import Size

    _errors_only()
    wanted = Wanted(Size(size), clear=clear, documents=not conversations_only, conversations=not documents_only)
    try:
        seed(settings, wanted)
    except CannotSeed as error:
        raise click.ClickException(str(error)) from None


@colloquy.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def make_backup(file: Path) -> None:
    """Write the database and the stored files to FILE, while everything runs."""
    settings = _settings()
    from chat_api.cli.backup import CannotBackUp, backup, report
    from chat_api.cli.databases import told_plainly

    _errors_only()
    try:
        report(told_plainly(backup)(settings, file), file)
    except CannotBackUp as error:
        raise click.ClickException(str(error)) from None


@colloquy.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--clean", is_flag=True, help="Replace everything that the database holds.")
def restore_backup(file: Path, *, clean: bool) -> None:
    """Bring back what FILE holds, into an empty database. Stop the services first."""
    settings = _settings()
    from chat_api.cli.databases import told_plainly
    from chat_api.cli.restore import CannotRestore, report, restore

    _errors_only()
    try:
        report(told_plainly(restore)(settings, file, clean=clean))
    except CannotRestore as error:
        raise click.ClickException(str(error)) from None


@colloquy.group()
def documents() -> None:
    """What bots answer from."""


@documents.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--bot", required=True, type=click.UUID, help="Id of a bot of yours.")
@click.option("--api-url", help="Address of the chat API (default: from the settings).")
@click.option(
    "--api-key",
    envvar="COLLOQUY_API_KEY",
    show_envvar=True,
    prompt="API key",
    hide_input=True,
    help="An API key with the scope `chat:write`, or an access token.",
)
def ingest(folder: Path, bot: UUID, api_url: str | None, api_key: str) -> None:
    """Upload what can be read below DIR, and wait until it is indexed. What is there already stays as it is."""
    from chat_api.cli.ingest import CannotIngest
    from chat_api.cli.ingest import ingest as ingest_folder
    from shared.settings import CommonSettings

    settings = CommonSettings.load()
    try:
        all_ready = ingest_folder(folder, str(bot), (api_url or settings.chat_api_base_url).rstrip("/"), api_key)
    except CannotIngest as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0 if all_ready else 1)


@colloquy.group()
def embeddings() -> None:
    """The vectors of passages."""


@embeddings.command()
def regenerate() -> None:
    """Embed every passage again with the model that the agent is set to. May be stopped, and goes on when run again."""
    settings = _settings()
    from chat_api.cli.regenerate import CannotRegenerate
    from chat_api.cli.regenerate import regenerate as regenerate_embeddings
    from shared.logging import configure_logging

    configure_logging("error", service="cli", is_final=False)
    try:
        regenerate_embeddings(settings)
    except CannotRegenerate as error:
        raise click.ClickException(str(error)) from None


@colloquy.group()
def sessions() -> None:
    """Conversations: tidied up, handed out, brought in."""


@sessions.command()
@click.option("--days-old", type=click.IntRange(1, 36_500), default=30, show_default=True, help="Without a message.")
@click.option("--expired", is_flag=True, help="Remove what their owners' plans keep no longer, instead of archiving.")
@click.option("--dry-run", is_flag=True, help="Only count them.")
def cleanup(days_old: int, *, expired: bool, dry_run: bool) -> None:
    """Archive the sessions in which nothing was said for a while. May be stopped, and goes on when run again."""
    settings = _settings()
    from chat_api.cli.cleanup import clean_up
    from chat_api.cli.databases import run_against_database

    _errors_only()
    run_against_database(clean_up(settings, days_old=None if expired else days_old, dry_run=dry_run))


@colloquy.group()
def analytics() -> None:
    """The figures of what was said and used."""


@analytics.command()
@click.option("--repair", is_flag=True, help="Make the figures what the rows say.")
def recount(*, repair: bool) -> None:
    """Count everything again, and show where the figures differ: 0 where nowhere, 1 where they did and still do."""
    settings = _settings()
    from chat_api.cli.analytics import recount as count_again
    from chat_api.cli.databases import run_against_database

    _errors_only()
    sys.exit(0 if run_against_database(count_again(settings, repair=repair)) else 1)


@colloquy.group()
def secrets() -> None:
    """What is stored sealed, because it has to be read again."""


@secrets.command()
def reseal() -> None:
    """Seal it anew after a change of COLLOQUY_SECRET_KEY: 0 when all is under the new one, 1 where some is unreadable.

    The key that it was sealed with has to be in COLLOQUY_PREVIOUS_SECRET_KEYS. May be stopped, and goes on when run
    again.
    """
    settings = _settings()
    from chat_api.cli.databases import run_against_database
    from chat_api.cli.secrets import reseal as seal_anew

    _errors_only()
    sys.exit(0 if run_against_database(seal_anew(settings)) else 1)


@colloquy.group()
def users() -> None:
    """Accounts."""


@users.command("create-admin")
@click.option("--email", prompt=True)
@click.option("--username", prompt=True)
@click.option(
    "--password", prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for when it is not given."
)
def create_admin(email: str, username: str, password: str) -> None:
    """Create an account that may administer."""
    settings = _settings()
    from chat_api.cli.databases import run_against_database
    from chat_api.users.accounts import create_admin as create
    from shared.logging import configure_logging

    configure_logging("error", service="cli", is_final=False)  # the person at the terminal gets a line, not an event

    run_against_database(create(settings, email, username, password))
    click.echo(f"{username} may administer now")


@sessions.command("export")
@click.argument("session_id", type=click.UUID, required=False)
@click.option("--user", help="Username or email address: every session that this person owns.")
@click.option("--format", "kind", type=click.Choice(["json", "markdown", "csv"]), default="json", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file, or with --user a folder.")
def export_sessions(session_id: UUID | None, user: str | None, kind: str, output: Path | None) -> None:
    """Write SESSION_ID, or every session of a person, to files."""
    if (session_id is None) == (user is None):
        raise click.UsageError("Give a session's id, or --user.")
    settings = _settings()
    from chat_api.cli.databases import run_against_database
    from chat_api.cli.transfer import CannotTransfer, export_all, export_one
    from chat_api.transfer.formats import ExportFormat

    _errors_only()
    wanted = ExportFormat(kind)
    try:
        if session_id is not None:
            run_against_database(export_one(settings, session_id, wanted, output))
        elif user is not None:
            run_against_database(export_all(settings, user, wanted, output or Path("sessions")))
    except CannotTransfer as error:
        raise click.ClickException(str(error)) from None


@sessions.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--user", required=True, help="Username or email address of whom the sessions will be.")
def import_sessions(file: Path, user: str) -> None:
    """Bring in FILE: sessions exported as JSON, or ChatGPT's conversations.json. All of it, or nothing."""
    settings = _settings()
    from chat_api.cli.databases import run_against_database
    from chat_api.cli.transfer import CannotTransfer
    from chat_api.cli.transfer import import_file as bring_in

    _errors_only()
    try:
        run_against_database(bring_in(settings, file, user))
    except CannotTransfer as error:
        raise click.ClickException(str(error)) from None


def _errors_only() -> None:
    """The person at the terminal gets lines, not events."""
    from shared.logging import configure_logging

    configure_logging("error", service="cli", is_final=False)


@users.command("set-plan")
@click.argument("name")
@click.argument("plan")
def set_plan(name: str, plan: str) -> None:
    """Give the account NAME (its username or email address) the plan PLAN."""
    settings = _settings()
    from chat_api.cli.databases import run_against_database
    from chat_api.users.plan_changes import change_plan
    from shared.logging import configure_logging

    configure_logging("error", service="cli", is_final=False)
    run_against_database(change_plan(settings, name, plan))
    click.echo(f"{name} has the plan {plan} now")


def _settings() -> ApiSettings:
    from chat_api.config import ApiSettings

    return ApiSettings.load()


def _owner_url() -> str:
    settings = _settings()
    url = settings.migration_database_url or settings.database_url
    if url is None:
        raise click.ClickException(
            "there is no database to migrate: set COLLOQUY_MIGRATION_DATABASE_URL, or run `colloquy up` beside this"
        )
    return url.get_secret_value()


def _need_port(host: str, port: int, variable: str) -> None:
    from deploy.local.ports import is_free

    if not is_free(host, port):
        raise click.ClickException(f"port {port} on {host} is taken: free it, or set {variable} to another")
