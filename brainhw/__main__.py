"""Entry point of ``python -m brainhw``."""

import sys

from brainhw.cli import main

if __name__ == "__main__":
    sys.exit(main())
