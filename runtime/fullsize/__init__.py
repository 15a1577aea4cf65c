"""Work on photos at their full size: tiles of rows, resampling, and hints kept exactly."""
