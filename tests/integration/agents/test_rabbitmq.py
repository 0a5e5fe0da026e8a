"""RabbitMQ as the broker: real workers consume from it. Runs where RABBITMQ_URL names a server, such as
amqp://guest:guest@127.0.0.1:5672//."""

import os

import pytest
from celery import Celery, current_app
from django.utils import timezone
from kombu import Connection

from agents.engine import epoch, publisher, recover
from agents.models import Attempt, Job, Step
from agents.states import JobState, StepState
from tests.factories.policies import publish
from tests.integration.agents.test_engine import step, submit
from tests.integration.agents.worker import worker
from tests.stack import wait_until

URL = os.environ.get("RABBITMQ_URL", "")
WHY = "RABBITMQ_URL names no RabbitMQ to test with"

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("test_tools"),
    pytest.mark.skipif(not URL, reason=WHY),
]


@pytest.fixture
def rabbit(settings, monkeypatch):
    """Everything is published to RabbitMQ, whose queues are empty; this process's broker is Redis again afterwards."""
    lose_data()
    settings.BROKER_URL = settings.CELERY_BROKER_URL = URL
    app = Celery("countersign-rabbit", set_as_current=False)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.conf.broker_transport_options = {"confirm_publish": True}
    app.conf.task_queues = current_app.conf.task_queues
    for module in (publisher, epoch):
        monkeypatch.setattr(module, "current_app", app)
    yield app
    epoch._forget()
    app.close()


def lose_data() -> None:
    """What is left when a broker began empty and its queues were declared anew."""
    with Connection(URL) as connection, connection.channel() as channel:
        for queue in current_app.conf.task_queues:
            queue.bind(channel).declare()
            channel.queue_purge(queue.name)
        channel.queue_delete(epoch.QUEUE)


def waiting(queue: str) -> int:
    with Connection(URL) as connection, connection.channel() as channel:
        return int(channel.queue_declare(queue=queue, passive=True).message_count)


def test_a_job_runs_over_rabbitmq(rabbit):
    publish(("shell.*", "allow"))
    with worker("shell", ["shell", "files"], 2, BROKER_URL=URL):
        job = submit(step("a", "shell.exec", argv=["true"]), step("b", "shell.exec", "a", argv=["true"]))
        wait_until(lambda: Job.objects.get(pk=job.pk).state == JobState.SUCCEEDED, timeout_s=60, why="the job ends")
    assert Attempt.objects.filter(step__job=job, outcome="succeeded").count() == 2
    assert waiting("shell") == 0


def test_messages_that_went_with_the_brokers_data_are_sent_again(rabbit, monkeypatch):
    publish(("test.*", "allow"))
    monkeypatch.setattr(epoch, "AMQP_EVERY_S", 0.0)
    assert epoch.is_new() and not epoch.is_new()
    submit(step("a"))
    assert waiting("shell") == 1
    lose_data()
    assert recover.forget_dispatches_if_the_broker_is_new(timezone.now()) == 1
    assert recover.republish(timezone.now()) == 1
    assert (waiting("shell"), Step.objects.get().state) == (1, StepState.QUEUED)


def test_a_broker_that_is_away_is_no_new_broker(rabbit, settings, monkeypatch):
    monkeypatch.setattr(epoch, "AMQP_EVERY_S", 0.0)
    rabbit.conf.broker_write_url = "amqp://guest:guest@127.0.0.1:1//"
    with pytest.raises(OSError, match=r"refused"):
        epoch.is_new()
