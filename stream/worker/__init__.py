"""The process that owns partitions: Faust application, models, supervision."""
