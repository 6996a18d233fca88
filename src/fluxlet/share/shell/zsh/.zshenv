# Read by the zsh of `flux start`, which then reads the user's files as ever; and the mark of the prompt.
if [[ -n $FLUX_ZDOTDIR ]]; then
    ZDOTDIR=$FLUX_ZDOTDIR
    unset FLUX_ZDOTDIR
else
    unset ZDOTDIR
fi
if [[ -r ${ZDOTDIR:-$HOME}/.zshenv ]]; then
    source ${ZDOTDIR:-$HOME}/.zshenv
fi
_flux_mark() {
    [[ $PROMPT == '(flux) '* ]] || PROMPT="(flux) $PROMPT"
}
precmd_functions+=(_flux_mark)
