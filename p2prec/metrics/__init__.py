"""How good recommendations and predictions are."""
