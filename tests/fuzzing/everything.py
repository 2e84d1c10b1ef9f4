"""All properties by name."""

import configurations
import data_files
import run_folders

PROPERTIES = configurations.PROPERTIES | run_folders.PROPERTIES | data_files.PROPERTIES
