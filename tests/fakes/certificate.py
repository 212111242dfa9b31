"""What is known of our certificate's end, in memory: `CertificateStore`."""

from __future__ import annotations

import threading
from dataclasses import replace

from token_rotator.domain.certificate import CertificateWatch
from token_rotator.domain.errors import StoreUnavailable


class InMemoryCertificate:
    """One deployment's item. `reads` and `writes` count; `failures` is as in `InMemoryGrants`."""

    def __init__(self) -> None:
        self.watch = CertificateWatch()
        self.reads = 0
        self.writes = 0
        self.failures: list[str] = []
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

    def _begin(self) -> str:
        plan = self.failures.pop(0) if self.failures else "ok"
        if plan == "before":
            raise StoreUnavailable("injected")
        return plan

    def _end(self, plan: str) -> None:
        if plan == "after":
            raise StoreUnavailable("injected")
