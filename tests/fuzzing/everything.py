"""All properties by name."""

from tests.fuzzing import configurations, data_files, identities, run_folders, trainings

ROOMS = (configurations, run_folders, data_files, identities, trainings)
PROPERTIES = {name: prop for room in ROOMS for name, prop in room.PROPERTIES.items()}
