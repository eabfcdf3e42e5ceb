"""Measurements of brainhw and of other libraries, which are not part of the tests."""
