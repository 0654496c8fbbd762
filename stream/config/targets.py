"""What is predicted; apart from the trainer, whose libraries a worker does not load."""

from models.data.spend import spend_target
from models.history import PURCHASE
from models.survival import hazard_targets
from models.targets import Target, intent_targets, shop_targets
from stream.config.settings import Settings


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
    spend: tuple[Target, ...] = ()
    if horizons.spend_cap is not None:
        spend = (spend_target(PURCHASE, horizons.purchase_horizon_ms, horizons.spend_cap),)
    intents = intent_targets(
        horizons.intent,
        horizons.intent_within,
        settings.state.session_gap_ms,
        horizons.intent_longest_ms,
    )
    return (*shop, *bins, *spend, *intents)
