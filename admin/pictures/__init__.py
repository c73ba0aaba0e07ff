"""Pictures that the server draws: axes, and a strategy as bands, marks and curves on them."""
