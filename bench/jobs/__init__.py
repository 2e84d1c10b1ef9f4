"""Who trains when: plan, packs, workers, tracker, and the table on the terminal."""
