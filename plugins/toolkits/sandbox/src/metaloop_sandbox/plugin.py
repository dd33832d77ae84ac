"""What the sandbox toolkit offers."""

from metaloop.manifest import Command, Part, Plugin

SPEC = Plugin(
    name="sandbox",
    summary="runs code that nobody has read: bubblewrap, or Landlock and seccomp",
    components=(Part("sandbox/sandbox", "part", "metaloop_sandbox.sandbox:Sandbox", "limits and mechanism"),),
    commands=(Command("sandbox", "metaloop_sandbox.command:sandbox", "Which sandbox works here."),),
)
