"""A real Apache Kafka on this machine, for the demo and the tests: no Docker, no Java, no Maven."""

from stream.broker.cluster import BrokerInfo, EmbeddedKafka, NodeStatus, running_servers

__all__ = ["BrokerInfo", "EmbeddedKafka", "NodeStatus", "running_servers"]
