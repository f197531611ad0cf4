"""What the portal changes in Celery and kombu."""

import pytest

from tests.support import environment
from tests.support.services import Valkey
from wkportal.celery import app


@pytest.fixture
def broker():
    with Valkey(environment.FOLDER / "celery-valkey") as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["ack", "reject", "requeue"])
def test_a_message_of_a_lost_connection_needs_no_acknowledgement(broker, answer):
    """A worker would exit: Celery hands what it is not told of on as an unrecoverable error."""
    with app.connection_for_write(broker.url) as sending:
        sending.SimpleQueue("jobs").put("x")
    receiving = app.connection_for_write(broker.url)
    message = receiving.SimpleQueue("jobs").get(timeout=30)
    receiving.close()
    getattr(message, answer)()
    with app.connection_for_write(broker.url) as again:
        queue = again.SimpleQueue("jobs")
        queue.put("y")
        queue.get(timeout=30).ack()
        assert again.default_channel.client.hlen("unacked") == 1  # the first one
