"""What a user turns to next: a ranking of categories or items from the state and recent events.

Most of what comes next has been there before, so the head first asks whether it will be something
seen lately or something else, and then which:

    p(c) = g * copy(c)       where c is among the user's recent events,
    p(c) = (1 - g) * new(c)  elsewhere,

as RepeatNet does (Ren et al., AAAI 2019; the pointer goes back to Vinyals et al., NeurIPS 2015).
`copy` is a softmax over the distinct codes of the recent events: of each it is known how often, how
lately and in what way it was seen, and the state is asked for it. `new` is a softmax over a
vocabulary, the most frequent codes of training, and one more place for all other codes. Its
vectors also are what the pointer's codes and the last event are known by (one table for input and
output: Press and Wolf, EACL 2017). They are no rows of the network's hashed tables: those share a
row among strangers, which a ranking cannot tell apart.

Legend: B batch, R recent events, V vocabulary, E width of a code's vector, J facts of a candidate,
k ranked; C, F and H as in `base`. TorchScript reads annotations as objects, so this module does
without postponed ones.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from models.errors import ModelError
from models.networks.base import NetworkSpec, SteadyLinear, silent

WHATS: Final = ("category", "item")
DECAYS: Final = (1.0, 4.0, 16.0)
"""Scales, in events, by which a sighting is forgotten."""
KINDS: Final = 8
"""Event types that are told apart; later ones count as the last."""
MASKED: Final = -1e9
"""Log-odds of what cannot be: finite, so that no gradient becomes NaN."""
RECENT: Final = 64
"""Recent events that a pointer is shown, at most: each is compared with each, and a user record
keeps as many by default."""
HOURS_LIMIT: Final = 16.0
"""Largest log1p of a gap in hours that is turned back into hours: a thousand years."""


@dataclass(frozen=True)
class NextConfig:
    """What is ranked, and the widths."""

    what: str = "category"
    """The integer feature that is ranked, one of `WHATS`."""
    width: int = 24
    """Width E of a code's vector."""
    mixed: int = 32
    """Width of the hidden layers of pointer and gate."""
    dropout: float = 0.2
    """Share of their activations, and of the state, dropped while training."""
    recent: int = RECENT
    """Recent events that the pointer is shown, at most."""


class NextHead(nn.Module):
    """State and recent events -> probabilities of the codes that may come next."""

    codes: Tensor

    def __init__(
        self,
        spec: NetworkSpec,
        hidden_size: int,
        codes_V: Tensor,
        counts_U: Tensor,
        config: NextConfig | None = None,
    ) -> None:
        """Build a head whose first ranking of what is new is by popularity.

        Args:
            spec: inputs of the network whose states it reads.
            hidden_size: width H of the state, 0 for networks without one.
            codes_V: the vocabulary, int64, ascending, without 0.
            counts_U: [V + 1] sightings of each in training, and of all other codes together.
            config: what is ranked, and widths.

        Raises:
            ModelError: the vocabulary is empty, not ascending or holds 0, or there is no such
                thing to rank.
        """
        super().__init__()
        config = config or NextConfig()
        if config.what not in WHATS:
            raise ModelError(f"nothing ranks {config.what!r}; choose one of {', '.join(WHATS)}")
        if len(codes_V) == 0 or int(codes_V[0]) < 1 or bool((codes_V.diff() <= 0).any()):
            raise ModelError("a vocabulary holds one code at least, ascending, none of them 0")
        size = len(codes_V)
        self.size = size
        self.recent = config.recent
        self.column = spec.int_features.index(config.what)
        self.type_column = spec.int_features.index("type")
        self.category_column = spec.int_features.index("category")
        self.gap_column = spec.num_features.index("log_gap_hours")
        self.of_items = config.what == "item"
        self.kinds = KINDS
        self.decays = list(DECAYS)
        self.masked = MASKED
        self.hours_limit = HOURS_LIMIT
        self.scale = config.width**-0.5
        self.register_buffer("codes", codes_V.clone())
        self.vectors = nn.Embedding(size + 1, config.width)
        nn.init.normal_(self.vectors.weight, std=0.1)
        share = (counts_U.float() + 1) / (counts_U.float() + 1).sum()
        self.popularity = nn.Parameter(share.log())
        told = hidden_size + config.width
        self.drop = nn.Dropout(config.dropout)
        self.query = nn.Linear(told, config.width)
        self.search = nn.Linear(told, config.width)
        facts = 2 * len(DECAYS) + 2 * KINDS + 7
        self.weigh = silent(SteadyLinear(facts, 1))
        self.notice = nn.Linear(facts, config.mixed)
        self.attend = nn.Linear(told, config.mixed, bias=False)
        self.judge = silent(SteadyLinear(config.mixed, 1))
        self.gate = nn.Sequential(
            nn.Linear(facts + told + 2, config.mixed),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            silent(SteadyLinear(config.mixed, 1)),
        )

    def places(self, code: Tensor) -> Tensor:
        """Where codes of any shape stand in the vocabulary; V where they are not in it."""
        place = torch.searchsorted(self.codes, code.contiguous()).clamp(max=self.size - 1)
        return torch.where(self.codes[place] == code, place, self.size)

    def facts(self, ids_BRC: Tensor, nums_BRF: Tensor, length_B: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of each recent event's code [B,R,J], and where it is seen last [B,R].

        A code stands where it was seen last; the rows of earlier sightings are to be passed over.
        """
        code, kind = ids_BRC[:, :, self.column], ids_BRC[:, :, self.type_column]
        rank = torch.arange(code.size(1), device=code.device).unsqueeze(0)
        inside = rank < length_B.unsqueeze(1)
        valid = inside & (code != 0)
        same = (code.unsqueeze(2) == code.unsqueeze(1)) & valid.unsqueeze(1) & valid.unsqueeze(2)
        later = rank > rank.t()
        latest = valid & ~(same & later).any(2)
        ago = (length_B.unsqueeze(1) - 1 - rank).clamp(min=0).float()
        fading = torch.stack([torch.exp(-ago / decay) for decay in self.decays], dim=2)
        kinds = nn.functional.one_hot(kind.clamp(0, self.kinds - 1), self.kinds).float()
        last = (length_B - 1).clamp(min=0).unsqueeze(1)
        now = code.gather(1, last)
        followed = torch.zeros_like(ago)
        followed[:, 1:] = ((code[:, :-1] == now) & (now != 0)).float()
        once = torch.ones_like(ago)
        counted = torch.cat([fading, kinds, once.unsqueeze(2), followed.unsqueeze(2)], dim=2)
        sums = same.float() @ counted
        category = ids_BRC[:, :, self.category_column]
        kin = (category.unsqueeze(2) == category.unsqueeze(1)) & inside.unsqueeze(1)
        # Of categories this says the same again, and is left out.
        akin = (kin.float() @ fading) * float(self.of_items)
        order = latest.flip(1).long().cumsum(1).flip(1).clamp(min=1).float()
        gap = torch.expm1(nums_BRF[:, :, self.gap_column].clamp(0, self.hours_limit)) * inside
        since = (gap.flip(1).cumsum(1).flip(1) - gap).clamp(min=0)
        single = [order.log(), 1 / order, (order == 1).float(), since.log1p(), ago.log1p()]
        facts = torch.cat([sums.log1p(), akin.log1p(), kinds, torch.stack(single, dim=2)], dim=2)
        return facts * latest.unsqueeze(2), latest

    def parts(
        self, hidden_BH: Tensor, ids_BRC: Tensor, nums_BRF: Tensor, length_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the recent codes [B,R] and of the vocabulary and others [B,V+1].

        A code has its probability in one of them; in the other it is next to nothing. Third, where
        each recent code is seen last [B,R]: its probability stands there.
        """
        facts, latest = self.facts(ids_BRC, nums_BRF, length_B)
        places = self.places(ids_BRC[:, :, self.column])
        last = (length_B - 1).clamp(min=0).unsqueeze(1)
        current = torch.where(length_B.unsqueeze(1) > 0, places.gather(1, last), self.size)
        told = self.drop(torch.cat([hidden_BH, self.vectors(current[:, 0])], dim=1))
        wanted = self.vectors(places) @ self.query(told).unsqueeze(2)
        noticed = torch.relu(self.notice(facts) + self.attend(told).unsqueeze(1))
        score = self.weigh(facts) + self.judge(self.drop(noticed)) + wanted * self.scale
        score = score.squeeze(2).masked_fill(~latest, self.masked)
        known = latest.sum(1, keepdim=True)
        pooled = facts.sum(1) / known.clamp(min=1)
        seen = torch.cat([known.float().log1p(), length_B.unsqueeze(1).float().log1p()], dim=1)
        again = self.gate(torch.cat([pooled, told, seen], dim=1))
        again = again.masked_fill(known == 0, self.masked)
        copied = torch.log_softmax(score, dim=1) + nn.functional.logsigmoid(again)
        copied = copied.masked_fill(~latest, self.masked)
        logits = self.popularity + (self.search(told) @ self.vectors.weight.t()) * self.scale
        taken = torch.zeros_like(logits).scatter_add(
            1, places, (latest & (places < self.size)).float()
        )
        logits = logits.masked_fill(taken > 0, self.masked)
        new = torch.log_softmax(logits, dim=1) + nn.functional.logsigmoid(-again)
        return copied, new.masked_fill(taken > 0, self.masked), latest

    def forward(
        self,
        hidden_BH: Tensor,
        ids_BRC: Tensor,
        nums_BRF: Tensor,
        length_B: Tensor,
        truth_B: Tensor,
    ) -> Tensor:
        """Log-probability [B] of the codes that came; of one never heard of, that of any other."""
        copied, new, latest = self.parts(hidden_BH, ids_BRC, nums_BRF, length_B)
        hit = latest & (ids_BRC[:, :, self.column] == truth_B.unsqueeze(1))
        fresh = new.gather(1, self.places(truth_B).unsqueeze(1)).squeeze(1)
        return torch.where(hit.any(1), (copied * hit).sum(1), fresh)

    @torch.jit.export
    def rank(
        self, hidden_BH: Tensor, ids_BRC: Tensor, nums_BRF: Tensor, length_B: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """The k likeliest codes [B,k], the likeliest first, and their probabilities [B,k].

        Args:
            hidden_BH: states after the last event.
            ids_BRC: recent events, right-padded, oldest first; R is 1 at least.
            nums_BRF: their numbers, not standardised.
            length_B: how many there are; 0 for users without any.
            k: codes that are told, V at most. Where fewer are left the rest has probability 0.
        """
        copied, new, _ = self.parts(hidden_BH, ids_BRC, nums_BRF, length_B)
        odds = torch.cat([copied, new[:, : self.size]], dim=1)
        codes = torch.cat(
            [ids_BRC[:, :, self.column], self.codes.unsqueeze(0).expand(odds.size(0), -1)], dim=1
        )
        best, place = odds.topk(k, dim=1)
        return codes.gather(1, place), best.exp()

    @torch.jit.export
    def tell(
        self, hidden_BH: Tensor, ids_BRC: Tensor, nums_BRF: Tensor, length_B: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """The k likeliest codes of the vocabulary: their places in it [B,k], and probabilities.

        As `rank`, but recent codes outside the vocabulary are passed over: nobody knows their
        names. What is told thus has the probabilities of `rank`, and its order.
        """
        copied, new, _ = self.parts(hidden_BH, ids_BRC, nums_BRF, length_B)
        places = self.places(ids_BRC[:, :, self.column])
        # A code has its probability in one of the two, and next to nothing in the other.
        told = new.exp().scatter_add(1, places, copied.exp())
        best, place = told[:, : self.size].topk(k, dim=1)
        return place, best
