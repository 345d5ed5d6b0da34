"""Job texts of these tests."""

import itertools
import json

_numbers = itertools.count(1)


def job(config, *, kind="batch", count=1, group="", task="", restarts=0, delay="1s", name=None, memory=32):
    """A job with one task and driver config `config`, a dict. By default it is not restarted."""
    name = name or f"test-{next(_numbers)}"
    if "kill_timeout" not in task:
        task += '\n      kill_timeout = "1s"'  # shells as pid 1 ignore SIGTERM
    lines = "\n".join(f"        {key} = {value}" for key, value in _attributes(config))
    blocks = "\n".join(_blocks(config))
    # A job that the server would place again would hide the failure that a test wants to see.
    return f"""
job "{name}" {{
  datacenters = ["dc1"]
  type        = "{kind}"
  group "{name}-group" {{
    count = {count}
    restart {{
      attempts = {restarts}
      delay    = "{delay}"
      interval = "10m"
      mode     = "fail"
    }}
    reschedule {{
      attempts  = 0
      unlimited = false
    }}
    {group}
    task "{name}-task" {{
      driver = "containerd-driver"
      config {{
{lines}
{blocks}
      }}
      resources {{
        cpu    = 20
        memory = {memory}
      }}
      {task}
    }}
  }}
}}
"""


def probe(*args, **more):
    return {"image": "probe:latest", "args": list(args), **more}


def shell(line, **more):
    return {"image": "busybox:latest", "command": "/bin/sh", "args": ["-c", line], **more}


def _attributes(config):
    for key, value in config.items():
        if not isinstance(value, dict) and not (isinstance(value, list) and value and isinstance(value[0], dict)):
            yield key, json.dumps(value).replace("${", "$${").replace("%{", "%%{")


def _blocks(config):
    for key, value in config.items():
        for block in value if isinstance(value, list) else [value]:
            if isinstance(block, dict):
                inner = "\n".join(f"          {k} = {json.dumps(v)}" for k, v in block.items())
                yield f"        {key} {{\n{inner}\n        }}"
