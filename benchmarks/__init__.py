"""Measurements of brainhw and of other libraries; not part of the tests."""
