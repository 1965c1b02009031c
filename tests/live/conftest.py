"""What the tests on real machines share: a Debian to copy, and this project's wheel."""

from __future__ import annotations

from support.debian import debian as debian
from support.debian import wheel as wheel
