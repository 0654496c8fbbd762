"""What a partition's models say of its users, and the messages that come of it.

No I/O, no Kafka, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.history import HISTORY
from models.inputs.segments import Evidence
from models.steps import windows_at
from stream.pipeline.alerts import Status
from stream.pipeline.decisions import Decided
from stream.pipeline.inputs import InputWatch
from stream.pipeline.ranking import ranks_of
from stream.pipeline.rollout import Serving, serving_of, shadow_scores
from stream.pipeline.state import USER_PREFIX
from stream.pipeline.step import Judged, TimeRules, judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from models.history import I64
    from models.inputs.features import F32
    from stream.config.settings import Settings
    from stream.pipeline.churn import AlertDraft, ChurnWatch, Inactive
    from stream.pipeline.clocks import Arrivals
    from stream.pipeline.emit import Emitter
    from stream.pipeline.fallback import CheckedScorer
    from stream.pipeline.hidden import ScorerLike
    from stream.pipeline.ingest import Decoded
    from stream.pipeline.outbox import Counters, Gathered
    from stream.pipeline.packed import Message, Packed
    from stream.pipeline.ranking import Ranks
    from stream.pipeline.records import Records
    from stream.pipeline.state import UserTable
    from stream.pipeline.timers import Timers


class Scoring:
    """Judges and scores events and silences, and puts what they lead to where it is gathered."""

    def __init__(
        self,
        *,
        settings: Settings,
        rules: TimeRules,
        table: UserTable,
        watch: ChurnWatch,
        timers: Timers,
        emitter: Emitter,
        gathered: Gathered,
        counters: Counters,
        scorer: ScorerLike | Serving,
    ) -> None:
        """Begin with ``scorer``: a model, or all models with those on trial.

        ``table``, ``timers`` and ``counters`` are the partition's and are changed in place.
        """
        self._settings = settings
        self._rules = rules
        self._table = table
        self._watch = watch
        self._timers = timers
        self._emitter = emitter
        self._gathered = gathered
        self._counters = counters
        self._most = settings.worker.rank_top
        self._evidence = Evidence(settings.evidence.min_events, settings.evidence.min_orders)
        self._serving = serving_of(scorer)
        self._inputs = InputWatch(self._serving.champion)

    @property
    def champion(self) -> CheckedScorer:
        """The model in use, canary and shadow aside."""
        champion: CheckedScorer = self._serving.champion
        return champion

    @property
    def rebuilds(self) -> int:
        """Events up to which a state need not be stored, see `Serving.rebuilds`."""
        return self._serving.rebuilds

    def replace(self, scorer: ScorerLike | Serving) -> None:
        """Use other models from the next event on; hidden states are rebuilt as users come by."""
        self._serving = serving_of(scorer)
        if self._serving.champion.code != self._inputs.code:
            self._inputs = InputWatch(self._serving.champion)

    def stability(self) -> dict[str, float]:
        """How far inputs are from those of training; `models.monitoring.drift`. From any thread."""
        return self._inputs.indices()

    def silent(self, rows: NDArray[np.intp], decided: Decided) -> None:
        """Look at silent users, in order of their due times."""
        ids = (self._table.key(row)[len(USER_PREFIX) :] for row in rows.tolist())
        for scorer, chosen in self._serving.split(ids, len(rows)):
            mine, when = rows, decided
            if chosen is not None:
                mine, when = rows[chosen], decided.take(chosen)
            drafts, found = self._watch.after_silence(
                self._table.records, mine, scorer, when, self._table.overflow
            )
            self._announce(drafts, scorer)
            if self._settings.worker.predict_at_timers:
                present = np.flatnonzero(self._watch.present(when))
                self._predict_inactive(mine[present], found.take(present), scorer)

    def apply(
        self,
        records: Records,
        decoded: Decoded,
        part: slice,
        rows: NDArray[np.intp],
        arrivals: Arrivals,
        ticks: I64 | None,
    ) -> Iterator[None]:
        """Give each user's events to the model that serves the user.

        Args:
            records: the micro-batch.
            decoded: its events.
            part: which of them.
            rows: their users.
            arrivals: how each of the part reached Kafka.
            ticks: per event of the part the tick of its replay's clock, ms; None: no replay.

        Yields where numbers are on their way: others may use the time, but not this partition.
        """
        ids = (key[len(USER_PREFIX) :] for key in decoded.keys[part])
        for scorer, chosen in self._serving.split(ids, len(rows)):
            if chosen is None:
                yield from self._score(records, decoded, part, rows, arrivals, ticks, scorer)
            else:
                mine = decoded.take(part.start + chosen)
                floor = None if ticks is None else ticks[chosen]
                alone = slice(0, len(chosen))
                came = arrivals.take(chosen)
                yield from self._score(records, mine, alone, rows[chosen], came, floor, scorer)

    def _score(
        self,
        records: Records,
        decoded: Decoded,
        part: slice,
        rows: NDArray[np.intp],
        arrivals: Arrivals,
        ticks: I64 | None,
        scorer: CheckedScorer,
    ) -> Iterator[None]:
        lo = part.start
        events, offsets = decoded.events.take(part), decoded.offsets[part]
        table = self._table
        shown = scorer.shown if self._most else 0
        marks = arrivals.marks
        judging = judge(
            table.records,
            rows,
            offsets,
            events,
            scorer,
            self._rules,
            table.overflow,
            table.scratch,
            shown=shown,
            moved=decoded.moved[part],
            came=marks,
            every=self._scored_at_every_event(rows),
        )
        if not judging.launch.over:
            yield
        judged = judging.finish()
        taken = judged.accepted
        table.touch(rows[taken])
        self._inputs.add(judged.profile)
        self._predict(decoded.keys[part], rows, offsets, events.time, judged, scorer)
        came, newest = arrivals.take(taken), judged.snapshot.last_time
        # Of several events of one user the last one that is the latest decides.
        latest = events.time[taken] == newest
        table.records["replayed"][rows[taken[latest]]] = came.replayed[latest]
        drafts = self._watch.after_events(
            table.records,
            rows[taken],
            events.take(taken),
            judged,
            scorer,
            Decided.at(came.stamps, newest, came.past),
            None if ticks is None else ticks[taken],
        )
        self._announce(drafts, scorer)
        self._timers.note(rows[taken])
        for index, late_by in judged.late:
            record = records[decoded.sources[lo + index]]
            loaded = bool(marks[index] & HISTORY)
            message = self._emitter.late(record, late_by, self._rules.grace, loaded=loaded)
            self._gathered.put("late", [message])
        for index, differing in judged.reused:
            record = records[decoded.sources[lo + index]]
            self._gathered.put("dead_letter", [self._emitter.reused(record, differing)])
        counters = self._counters
        counters.invalid += len(judged.reused)
        counters.accepted += len(taken) + len(judged.replayed)
        counters.duplicate += len(judged.duplicates)
        counters.late += len(judged.late)
        counters.overflow += sum(late_by <= self._rules.grace for _, late_by in judged.late)

    def _scored_at_every_event(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Of whose events not just the last one is scored: an open alert moves at each."""
        if self._settings.worker.emit == "every":
            return np.ones(len(rows), np.bool_)
        return np.asarray(self._table.records["status"][rows] != Status.CALM)

    def _predict(
        self,
        keys: list[bytes],
        rows: NDArray[np.intp],
        offsets: I64,
        times: I64,
        judged: Judged,
        scorer: CheckedScorer,
    ) -> None:
        last = judged.latest
        every = self._settings.worker.emit == "every"
        chosen = np.arange(len(judged.scored)) if every else last
        shadow = self._serving.trials.shadow
        scores = judged.probabilities[chosen]
        ranks = self._ranks(judged, chosen, scorer)
        messages = self._messages(keys, offsets, times, judged, chosen, scores, ranks, scorer)
        self._gathered.put("propensity", messages)
        self._counters.predictions += len(messages)
        if shadow is not None and len(last):
            users = rows[judged.accepted[judged.scored[last]]]
            found = shadow_scores(
                shadow, self._table.records, users, judged.profile[last], self._most
            )
            if found is None:
                self._serving = self._serving.without(shadow.version)
            else:
                messages = self._messages(keys, offsets, times, judged, last, *found, shadow)
                self._gathered.put("shadow", messages)

    def _predict_inactive(
        self, rows: NDArray[np.intp], found: Inactive, scorer: CheckedScorer
    ) -> None:
        """Predictions of users as timers found them. What comes next is ranked at events only.

        Of a model whose targets all apply at events only there are none.
        """
        if not len(rows) or all(target.at_events for target in scorer.targets):
            return
        messages = self._emitter.predictions(
            [self._table.key(row)[len(USER_PREFIX) :] for row in rows.tolist()],
            found.offsets,
            found.now,
            found.now,
            found.probabilities,
            scorer,
            known=found.state,
            automated=self._watch.automated(found.state),
            cold=self._evidence.lacking(found.state),
            stale=scorer.stale,
            ranks={},
            reason="timer",
        )
        self._gathered.put("propensity", messages)
        self._counters.predictions += len(messages)

    def _ranks(
        self, judged: Judged, chosen: NDArray[np.intp], scorer: CheckedScorer
    ) -> dict[str, Ranks]:
        """What the users of the chosen ones of the scored events turn to next."""
        if judged.recent is None or not len(chosen):
            return {}
        window = windows_at(judged.recent, chosen)
        return ranks_of(scorer, judged.hidden[chosen], window, self._most)

    def _messages(
        self,
        keys: list[bytes],
        offsets: I64,
        times: I64,
        judged: Judged,
        chosen: NDArray[np.intp],
        scores_NK: F32,
        ranks: dict[str, Ranks],
        scorer: CheckedScorer,
    ) -> list[Message] | Packed:
        """Predictions of the chosen ones of the scored events."""
        place = judged.scored[chosen]
        index, known = judged.accepted[place], judged.snapshot.take(place)
        return self._emitter.predictions(
            [keys[i][len(USER_PREFIX) :] for i in index.tolist()],
            offsets[index],
            times[index],
            known.last_time,
            scores_NK,
            scorer,
            known=known,
            automated=self._watch.automated(known),
            cold=self._evidence.lacking(known),
            stale=scorer.stale,
            ranks=ranks,
        )

    def _announce(self, drafts: list[AlertDraft], scorer: CheckedScorer) -> None:
        if drafts:
            self._gathered.put("churn", self._emitter.alerts(drafts, self._table, scorer))
            self._counters.alerts += len(drafts)
