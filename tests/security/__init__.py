"""What an outsider, a viewer, a holder of one secret and a neighbour on the machine may not do, on real servers."""
