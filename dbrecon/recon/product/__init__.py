"""What a release looks like as files: zip, geographic header, segments, and their writer."""
