"""What the current rows are compared with: earlier seasons, and the dates that the champion was trained on."""
