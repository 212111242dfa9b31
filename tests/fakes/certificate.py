"""What is known of our certificate's end, in memory: `CertificateStore`."""

from __future__ import annotations

import threading
from dataclasses import replace

from token_rotator.domain.certificate import CertificateWatch

from .failing import Failing


class InMemoryCertificate(Failing):
    """One deployment's item. `reads` and `writes` count; `failures` is as in `Failing`."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = CertificateWatch()
        self.reads = 0
        self.writes = 0
        self.before_write = lambda: None
        self._lock = threading.RLock()

    def read(self) -> CertificateWatch:
        with self._lock:
            self.reads += 1
            self._end(self._begin())
            return self.watch

    def write(self, before: CertificateWatch, after: CertificateWatch) -> CertificateWatch | None:
        self.before_write()
        with self._lock:
            self.writes += 1
            plan = self._begin()
            ok = self.watch.revision == before.revision
            if ok:
                self.watch = replace(after, revision=before.revision + 1)
            self._end(plan)
            return self.watch if ok else None
