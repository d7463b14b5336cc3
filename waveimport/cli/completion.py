"""`waveimport completion`: what a shell needs to complete commands and options by Tab."""

import click
from click.shell_completion import ShellComplete, get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a SHELL, to be read by it at its start.

    \b
    bash:  waveimport completion bash > ~/.local/share/bash-completion/completions/waveimport
    zsh:   waveimport completion zsh > a file that .zshrc sources, after compinit
    fish:  waveimport completion fish > ~/.config/fish/completions/waveimport.fish

    The script asks `waveimport` itself at each Tab, so it need not be printed again after an upgrade. It needs neither
    configuration nor database.
    """
    found = get_completion_class(shell)
    assert found is not None, "click completes for the three shells"
    root = ctx.find_root()
    # Bash's own `source` starts the bash of this machine for its version, which need not be the one that reads it.
    click.echo(ShellComplete.source(found(root.command, {}, "waveimport", "_WAVEIMPORT_COMPLETE")))
