"""One class per family: its networks' losses, phases and the pictures it shows."""
