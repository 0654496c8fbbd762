"""Intent within a session, predicted at each event: a simulated funnel, real logs, baselines."""
