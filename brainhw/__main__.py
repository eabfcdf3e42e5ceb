"""What ``python -m brainhw`` runs."""

import sys

from brainhw.cli import main

if __name__ == "__main__":
    sys.exit(main())
