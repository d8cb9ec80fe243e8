"""What servers do to their gradients before they are quantised, and undo after the switch."""
