"""The topics of a project's sources, at their brokers: looked at for a plan, made and grown by apply.

A project that streams from files never opens a client of Kafka.
"""

from typing import TYPE_CHECKING

from featureflow_cli.plan.steps import CreateTopic, GrowTopic
from featureflow_cli.plan.topics import Topics, kafka_of, topics_of
from featureflow_cli.spec.models import KafkaStream

if TYPE_CHECKING:
    from featureflow_cli.compute.views import Repo
    from featureflow_cli.evaluate.project import Project
    from featureflow_cli.sources.kafka_admin import Admin


def streamed(project: "Project", repo: "Repo") -> dict[str, KafkaStream]:
    """The sources of the definitions that stream from Kafka."""
    return {
        name: kafka
        for name, source in repo.sources.items()
        if (kafka := kafka_of(source, project.config)) is not None
    }


def look(project: "Project", repo: "Repo") -> Topics:
    """What is there of the topics that the definitions name; StoreUnavailable where brokers do not answer."""
    return {
        name: admin(project, kafka).describe(topics_of(kafka))
        for name, kafka in streamed(project, repo).items()
    }


def create(project: "Project", step: CreateTopic) -> None:
    """Carries out the step: what is there already is left as it is."""
    _admin_of(project, step.source).create(step.topic, step.partitions, step.retention_us)


def grow(project: "Project", step: GrowTopic) -> None:
    _admin_of(project, step.source).grow(step.topic, step.partitions)


def admin(project: "Project", kafka: KafkaStream) -> "Admin":
    """A client for the brokers of that topic."""
    from featureflow_cli.sources.kafka_admin import Admin

    return Admin(kafka, project.environ)


def _admin_of(project: "Project", source: str) -> "Admin":
    return admin(project, streamed(project, project.written_repo)[source])
