"""Connectors: configured connectors with their sealed secrets, what was found behind them, who uses them."""
