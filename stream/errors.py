"""Errors of the engine: each message says where it happened and what to do about it."""

from schemas.errors import IntentStreamError


class StreamError(IntentStreamError):
    """Base of the engine's errors."""


class SettingsError(StreamError):
    """A setting is unknown, out of range, or contradicts another one."""


class NoBrokerNamed(SettingsError):
    """The settings name no Kafka cluster, and no local one runs on their data folder."""


class BrokerError(StreamError):
    """The embedded broker cannot be started, found or stopped, or no broker answers."""


class StateLayoutError(StreamError):
    """A stored user record has a layout that this worker does not read."""


class TopicLayoutError(StreamError):
    """Topics are missing or laid out so that the worker's guarantees would not hold.

    Attributes:
        problems: one line per problem, each naming the topic and the remedy.
    """

    def __init__(self, problems: list[str]) -> None:
        """Keep the single problems beside the joined message."""
        super().__init__("wrong topic layout: " + "; ".join(problems))
        self.problems = problems


class StoreError(StreamError):
    """The local state of a partition cannot be read or written (disk full, read-only, I/O)."""


class StoreLocked(StoreError):
    """Another process, or another partition of this one, holds the data folder."""


class StoreForeign(StoreError):
    """The data folder belongs to another app, changelog, partition count or layout."""


class StoreCorrupt(StoreError):
    """RocksDB found its files damaged: the folder has to be wiped and restored."""


class ClusterUnreachable(StreamError):
    """Nobody in charge answers: what is durable is untouched, and waiting heals it."""


class CommitError(StreamError):
    """A commit did not happen, or nobody knows whether it did: memory is not to be trusted."""


class CommitFenced(CommitError):
    """Another worker took the partition over: this one must change nothing any more."""


class TransactionUndecided(StreamError):
    """A transaction lacks its marker, and whether it was committed cannot be known."""


class RecordTooLarge(CommitError):
    """The broker refuses a record because of its size."""


class ClockRefused(CommitError):
    """The broker refuses a record because of its timestamp: this machine's clock is wrong."""

    def __init__(self, message: str, where: str | None = None) -> None:
        """Take the topic and partition of the refused record too, where they are known."""
        super().__init__(message)
        self.where = where


class RecoveryError(StreamError):
    """The changelog cannot be read up to its end."""


class LogUnreadable(StreamError):
    """Records on the broker cannot be decoded; names the place."""


class OpeningGivenUp(StreamError):
    """A partition was taken away while it was being opened: nothing is lost, nothing is wrong."""


class OffsetError(StreamError):
    """The offset to start from does not exist in the source topic."""


class TopicReplaced(StreamError):
    """A topic was deleted and created again: what was noted of its offsets is of the old one."""


class EraseError(StreamError):
    """Requests to forget users cannot be sent, or not be read."""


class PartitionError(StreamError):
    """A partition stopped; the cause says why."""


class WorkerError(StreamError):
    """The worker cannot start or cannot go on."""


class StalledError(WorkerError):
    """A part of the worker makes no progress any more, and said nothing about it."""


class ScorerFailed(StreamError):
    """A model fails on a micro-batch, also when asked again.

    Attributes:
        version: of the model.
    """

    def __init__(self, version: str, problem: str) -> None:
        """`problem`: what it does instead of scoring."""
        super().__init__(
            f"model {version}: {problem}; an older model takes over: withdraw it (`intentstream"
            " models promote` another version) or look at the device it runs on"
        )
        self.version = version


class DeadLetterError(StreamError):
    """Dead letters cannot be shown or brought back."""


class TrainerError(StreamError):
    """The trainer cannot read the event log, or cannot announce a model."""


class OutcomesError(StreamError):
    """There is nothing to evaluate."""


class NothingNew(TrainerError):
    """Since the published model nothing came that a model could learn from: none is published."""


class ExplainError(StreamError):
    """A prediction that cannot be made again: its event or its model is not there."""
