"""Tools by third parties, as Python packages with an entry point in the group `countersign.tools`.

`packages` looks at what is installed and imports none of it; `inspecting` asks a plugin in the sandbox what its tools are
(`describe`, `defining`); `loading` imports what an administrator accepted, and nothing else. `scaffold` begins a plugin, and
`contract` is the suite of tests that its author runs.
"""

GROUP = "countersign.tools"
KIND = "plugin"
