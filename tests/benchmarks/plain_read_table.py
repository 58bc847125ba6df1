"""What a user runs where nobody has asked the doctor: fetch the table of a training. Nothing else.

python tests/benchmarks/plain_read_table.py s3://BUCKET/KEY
"""

import sys
import tempfile
from urllib.parse import urlsplit

import boto3

place = urlsplit(sys.argv[1])
print(flush=True)  # from here on it is measured
with tempfile.NamedTemporaryFile() as file:
    boto3.client("s3").download_file(place.netloc, place.path.lstrip("/"), file.name)
