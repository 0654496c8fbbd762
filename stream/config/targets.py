"""What is predicted; apart from the trainer, whose libraries a worker does not load."""

from models.data.spend import spend_target
from models.history import PURCHASE
from models.serving.thresholds import Wanted
from models.survival import hazard_targets
from models.targets import ABSENT, Target, intent_targets, shop_targets, within_own_gaps
from stream.config.durations import DAY_MS
from stream.config.learning_settings import CHURN_HORIZON_MS
from stream.config.settings import ChurnSettings, Settings


def churn_horizon_of(settings: Settings) -> int:
    """The horizon of alerts, ms: the default where churn is not predicted (any more)."""
    return settings.train.churn_horizon_ms or CHURN_HORIZON_MS


def wanted_of(rules: ChurnSettings) -> Wanted:
    """What the threshold of alerts is to be learnt for."""
    return Wanted(rules.target_precision, rules.alert_budget_per_day)


def cancel_window_of(settings: Settings) -> int:
    """Within how many ms a purchase that is given back is none to a label.

    Unset it is a day, but no longer than the longest horizon besides churn's: labels wait as long,
    and horizons of minutes must not need logs of days.
    """
    window = settings.train.cancel_window_ms
    if window is not None:
        return window
    targets = targets_of(settings)
    soon = [target.horizon_ms for target in targets if target.kind != ABSENT]
    return min(DAY_MS, max(soon or [target.horizon_ms for target in targets]))


def targets_of(settings: Settings) -> tuple[Target, ...]:
    """The targets with the horizons of the settings."""
    horizons = settings.train
    edges = horizons.wait_edges_ms
    bins = hazard_targets(PURCHASE, edges) if edges else ()
    shop = shop_targets(
        PURCHASE,
        horizons.purchase_horizon_ms,
        horizons.churn_horizon_ms,
        cart_horizon_ms=horizons.cart_horizon_ms,
        favourite_horizon_ms=horizons.favourite_horizon_ms,
    )
    if horizons.churn_gaps is not None:
        shop = within_own_gaps(
            shop, horizons.churn_gaps, horizons.churn_floor_ms, settings.churn.prior_gap_ms
        )
    spend: tuple[Target, ...] = ()
    if horizons.spend_cap is not None and horizons.purchase_horizon_ms is not None:
        spend = (spend_target(PURCHASE, horizons.purchase_horizon_ms, horizons.spend_cap),)
    intents = intent_targets(
        horizons.intent,
        horizons.intent_within,
        settings.state.session_gap_ms,
        horizons.intent_longest_ms,
    )
    return (*shop, *bins, *spend, *intents)
