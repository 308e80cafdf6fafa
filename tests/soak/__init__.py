"""The long runs that prove the figures: `scripts/soak`. One module per scenario."""
