"""An emulator of Wise's token endpoint and of ``/v1/me``, for development, tests and the demo.

Start it with ``python -m local.wise``, or inside a process with ``local.wise.running.running_wise``;
steer it and read its truth with ``local.wise.control.WiseControl``.
"""
