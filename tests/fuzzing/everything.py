"""All properties by name."""

from tests.fuzzing import configurations, data_files, run_folders

PROPERTIES = configurations.PROPERTIES | run_folders.PROPERTIES | data_files.PROPERTIES
