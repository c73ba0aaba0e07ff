"""The stages about models in use: predictions, outcomes, scores and their report."""
