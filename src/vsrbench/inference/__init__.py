"""From files to files with any method: chunks, tiles, padding, video and folders of frames."""
