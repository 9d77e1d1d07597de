"""How optimizers are named on the command line, in words for the help."""

# Beside the recipes.
OTHERS = (
    "any of torch and of pytorch_optimizer (torch:NAdam, pytorch_optimizer:Lion), or your own (package.module:thing)"
)
ONE_OPTION = 'other options of the optimizer: beta=0.8 "betas=(0.8, 0.99)"'
