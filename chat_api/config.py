"""Settings of the chat API and its worker."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator

from shared.contracts.chat import MAX_IMAGE_BYTES
from shared.settings import CommonSettings


class ModelPrice(BaseModel):
    """Per million tokens, in the operator's currency."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Decimal = Field(ge=0, le=1_000_000)
    completion: Decimal = Field(ge=0, le=1_000_000)


_FREE = ModelPrice(prompt=Decimal(0), completion=Decimal(0))


DEFAULT_PLAN = "free"
"""The plan of a new account, and of one whose plan is no longer there."""


_MOST = 10**15
"""What PostgreSQL can count and add to. More than that is null: no limit."""


class Plan(BaseModel):
    """What one person may use. Null is as much as they like. Days are UTC's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages_per_day: int | None = Field(default=None, ge=0, le=_MOST)
    tokens_per_day: int | None = Field(default=None, ge=0, le=_MOST)
    documents: int | None = Field(default=None, ge=0, le=_MOST, description="Of all their bots together.")
    storage_bytes: int | None = Field(
        default=None, ge=0, le=_MOST, description="Of documents and attachments together."
    )
    requests_per_minute: int | None = Field(default=None, ge=1, le=10_000_000, description="By whatever credential.")
    key_requests_per_minute: int | None = Field(default=None, ge=1, le=10_000_000, description="By one API key.")
    retention_days: int | None = Field(
        default=None, ge=1, le=36_500, description="Sessions idle for longer are removed."
    )


_PLANS = {
    DEFAULT_PLAN: Plan(
        messages_per_day=1_000,
        tokens_per_day=2_000_000,
        documents=500,
        storage_bytes=1_073_741_824,
        requests_per_minute=1_200,
        key_requests_per_minute=600,
    ),
    "pro": Plan(
        messages_per_day=20_000,
        tokens_per_day=50_000_000,
        documents=20_000,
        storage_bytes=107_374_182_400,
        requests_per_minute=6_000,
        key_requests_per_minute=3_000,
    ),
    "unlimited": Plan(),
}


class ApiSettings(CommonSettings):
    """Times are in seconds unless the name says otherwise."""

    database_url: SecretStr | None = Field(default=None, description="As the API role: it can only do CRUD on `chat`.")
    migration_database_url: SecretStr | None = Field(default=None, description="As the owner role.")
    redis_url: SecretStr | None = None
    redis_command_seconds: float = Field(
        default=0.5, gt=0, le=30, description="Longest that anybody waits for Redis, which holds nothing but hints."
    )

    cors_origins: list[str] = Field(default_factory=list, description="Browser origins that may call, as JSON.")

    db_pool_size: int = Field(default=5, ge=1)
    db_max_overflow: int = Field(default=5, ge=0)
    db_statement_pool_size: int = Field(default=10, ge=1, description="Connections for the one-statement hot paths.")
    db_pool_seconds: float = Field(
        default=2, gt=0, le=30, description="Longest wait for a free connection, after which a request is refused."
    )
    db_event_pool_size: int = Field(
        default=2,
        ge=1,
        description="Connections for reading what sockets are told; made when the first follows a session.",
    )

    access_token_minutes: float = Field(default=15, gt=0)
    refresh_token_days: float = Field(default=30, gt=0)
    admin_session_hours: float = Field(default=8, gt=0, le=168, description="Longest that a sign-in to `/admin` lasts.")

    run_lease_seconds: float = Field(default=4, gt=0, description="A run without a heartbeat for so long is orphaned.")
    run_heartbeat_seconds: float = Field(default=0.5, gt=0, description="Also how fast a cancel crosses processes.")
    run_poll_seconds: float = Field(default=1, gt=0, description="How often orphaned and waiting runs are looked for.")
    run_timeout_seconds: float = Field(default=300, gt=0, description="Longest a run may take in all.")
    run_attempts: int = Field(default=3, ge=1, description="Starts of a run that has not said anything yet.")
    run_stream_seconds: int = Field(default=600, ge=1, description="How long an ended run's stream is kept.")
    approval_seconds: float = Field(default=86_400, gt=0, description="How long a call waits for a person's decision.")
    tool_attempts: int = Field(
        default=3, ge=1, le=10, description="Starts of a call that is safe to repeat, in a run whose process died."
    )
    max_concurrent_runs: int = Field(default=200, ge=1, description="Per process.")
    run_image_bytes: int = Field(
        default=8 * MAX_IMAGE_BYTES,
        ge=MAX_IMAGE_BYTES,
        description="Pictures of all turns of a process at once, in bytes. They take three times that in memory.",
    )

    prices: dict[str, ModelPrice] = Field(
        default_factory=lambda: {"local": _FREE},
        description="By `provider:model` or provider, as JSON, per million tokens. Others have no known cost.",
    )

    plans: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")], Plan] = Field(
        default_factory=lambda: dict(_PLANS),
        description="What people may use, by the name of their plan, as JSON. `free` has to be one of them.",
    )
    plan_seconds: float = Field(
        default=30, ge=0, description="How long a process may go by a person's plan before it looks again."
    )
    sign_ins_per_minute: int = Field(
        default=10, ge=1, description="Attempts to sign in to one account from one address."
    )
    address_sign_ins_per_minute: int = Field(
        default=300, ge=1, description="Attempts to register, sign in and renew tokens from one address, in all."
    )
    rate_limit_seconds: float = Field(
        default=0.25, gt=0, description="Longest that a request waits for Valkey to count it; then it is counted here."
    )

    agent_connect_seconds: float = Field(default=2, gt=0)
    agent_silence_seconds: float = Field(
        default=40, gt=0, description="Longest silence of the agent within a turn; it sends a comment every 15 s."
    )
    breaker_failures: int = Field(default=5, ge=1, description="Failures in a row that open the circuit to the agent.")
    breaker_open_seconds: float = Field(default=1, gt=0)

    document_storage_url: str | None = Field(
        default=None,
        pattern=r"^(s3://[^/\s]+(/\S*)?|file:///\S*)$",
        description="`s3://bucket/prefix` or `file:///folder`. Unset: the folder `documents` of the data folder.",
    )
    s3_endpoint_url: str | None = Field(default=None, description="Of an S3-compatible store that is not Amazon's.")
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None
    max_document_bytes: int = Field(default=20_971_520, ge=1024, description="Largest document, in bytes.")
    max_upload_bytes: int = Field(default=104_857_600, ge=1024, description="Largest upload of several documents.")
    max_document_characters: int = Field(default=2_000_000, ge=1, description="Most text taken out of a document.")
    document_watch_seconds: float = Field(
        default=600, gt=0, description="Longest that a stream of document events lasts; its client connects again."
    )
    extraction_seconds: float = Field(default=8, gt=0, description="Longest that reading one document may take.")
    extraction_memory_mb: int = Field(default=512, ge=64, description="Most memory that reading a document may take.")

    job_lease_seconds: float = Field(default=10, gt=0, description="A job without a heartbeat for so long is free.")
    job_heartbeat_seconds: float = Field(default=2, gt=0)
    job_poll_seconds: float = Field(default=0.5, gt=0, description="How often work that is due is looked for.")
    job_attempts: int = Field(default=8, ge=1, description="Starts of a job before it fails for good.")
    max_concurrent_jobs: int = Field(default=4, ge=1, description="Per worker.")
    worker_host: str = "127.0.0.1"
    worker_port: int | None = Field(
        default=None, ge=1, le=65535, description="Of the worker's `/health/live` and `/metrics`. Unset: it has none."
    )

    archive_idle_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Sessions without a message for so long are archived, every night. Unset: none.",
    )

    webhook_seconds: float = Field(default=10, gt=0, description="Longest that an endpoint may take to answer.")
    webhook_internal_hosts: list[str] = Field(
        default_factory=list,
        description="Endpoints (`host:port`) that may be told although they are not public, over http too; as JSON.",
    )
    max_concurrent_deliveries: int = Field(
        default=8, ge=2, description="Webhooks told at once, per worker; half as many of one endpoint."
    )

    message_embeddings: bool = Field(
        default=True, description="Whether messages are embedded for search by meaning, in the background."
    )

    max_participants: int = Field(default=250, ge=2, description="People in one session at most.")
    max_attachment_bytes: int = Field(default=10_485_760, ge=1024, description="Largest attachment, in bytes.")
    max_import_bytes: int = Field(default=104_857_600, ge=1024, description="Largest file to import, in bytes.")
    max_session_copy_messages: int = Field(
        default=250_000,
        ge=1,
        description="Messages of one conversation that is imported, or that a snapshot is made of.",
    )
    max_snapshots: int = Field(default=20, ge=1, description="Snapshots of one session at most.")
    related_messages: int = Field(default=20, ge=1, description="Messages of a related session shown to the model.")
    user_sends_per_second: float = Field(
        default=20, gt=0, description="Messages of one person, in the long run, for each process of the API."
    )
    user_sends_burst: int = Field(default=100, ge=1, description="Messages of one person at once.")

    ws_ticket_seconds: float = Field(default=30, gt=0)
    ws_authenticate_seconds: float = Field(default=10, gt=0, description="Time for the first frame to authenticate.")
    ws_sockets_per_user: int = Field(default=100, ge=1, description="Open sockets of one person, for each process.")
    ws_subscriptions: int = Field(default=500, ge=1, description="Sessions that one socket may follow.")
    ws_frames_per_second: float = Field(
        default=50, gt=0, description="Frames from one socket, in the long run. A large one counts as several."
    )
    ws_frames_burst: int = Field(default=200, ge=1, description="Frames from one socket at once.")
    ws_queue_bytes: int = Field(
        default=1_048_576, ge=65_536, description="What may wait for a slow reader before its socket is closed."
    )
    ws_stall_seconds: float = Field(default=5, gt=0, description="Longest that a socket may take no byte at all.")
    ws_replay_events: int = Field(default=1000, ge=1, description="Most events that a subscription replays.")
    ws_sweep_seconds: float = Field(
        default=1, gt=0, description="How often sessions that are followed are looked at without a hint."
    )
    presence_seconds: float = Field(
        default=15, gt=0, description="A person of whom no process has said so long that they are there has gone."
    )

    history_messages: int = Field(default=50, ge=1, description="Messages handed to the model at most.")
    sse_keepalive_seconds: float = Field(default=15, gt=0)

    @field_validator("plans")
    @classmethod
    def _has_the_default_plan(cls, plans: dict[str, Plan]) -> dict[str, Plan]:
        if DEFAULT_PLAN not in plans:
            raise ValueError(f"there must be a plan named {DEFAULT_PLAN!r}, for new accounts")
        return plans

    @property
    def access_token_lifetime(self) -> timedelta:
        return timedelta(minutes=self.access_token_minutes)

    @property
    def refresh_token_lifetime(self) -> timedelta:
        return timedelta(days=self.refresh_token_days)
