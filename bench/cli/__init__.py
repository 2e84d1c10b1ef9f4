"""What Hydra and the shell need: composing a configuration, explaining mistakes in it, callbacks."""
