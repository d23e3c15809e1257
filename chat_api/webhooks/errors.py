"""What can be wrong with a webhook, for its owner and in the log of its deliveries."""

from __future__ import annotations

from shared.problems import Problem


class WebhookNotFound(Problem):
    status = 404
    code = "webhook-not-found"
    title = "Webhook not found"
    detail = "There is no such webhook, or it is somebody else's."


class DeliveryNotFound(Problem):
    status = 404
    code = "delivery-not-found"
    title = "Delivery not found"
    detail = "There is no such delivery of this webhook, or it was forgotten: they are kept for 30 days."


class TooManyWebhooks(Problem):
    status = 409
    code = "too-many-webhooks"
    title = "There are too many webhooks"
    detail = "Delete one first: 20 is the most that one person has."


class WebhookDisabled(Problem):
    status = 409
    code = "webhook-disabled"
    title = "The webhook is disabled"
    detail = "Enable it first."


class DeliveryPending(Problem):
    status = 409
    code = "delivery-pending"
    title = "The delivery is under way"
    detail = "It is still tried, and can be sent again once it was delivered or given up."


class EndpointRefused(Problem):
    """The endpoint answered with something else than 2xx. The log has the status."""

    status = 502
    code = "webhook-refused"
    title = "The endpoint refused it"
    detail = "The endpoint did not answer with a status of 200 to 299."


class EndpointUnreachable(Problem):
    status = 502
    code = "webhook-unreachable"
    title = "The endpoint cannot be reached"
    detail = "There was no connection to the endpoint, or it broke off."


class EndpointTimedOut(Problem):
    status = 504
    code = "webhook-timed-out"
    title = "The endpoint did not answer in time"
    detail = "Answer first, and work afterwards."


class AddressNotAllowed(Problem):
    status = 403
    code = "webhook-address-refused"
    title = "The address is refused"
    detail = "Only public servers on ports 80 and 443 can be reached."


class SecretUnreadable(Problem):
    status = 500
    code = "webhook-secret-unreadable"
    title = "The secret can no longer be read"
    detail = "The installation's secret key was changed. Make a new secret for this webhook."


class EventGone(Problem):
    status = 410
    code = "event-gone"
    title = "The event is gone"
    detail = "The session was deleted before this was delivered."


class EndpointPaused(Problem):
    """Says in the worker's log why an attempt waits; nobody else sees it."""

    status = 503
    code = "webhook-paused"
    title = "The endpoint is left alone for now"
    detail = "It failed a moment ago, or has as many deliveries under way as it may."
