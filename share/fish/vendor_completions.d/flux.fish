# Completion of flux: made by the flux that is found, when Tab is first pressed behind it.
flux completion fish | source
