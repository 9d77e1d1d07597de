"""Figure 5: mean escape time against sharpness, Appendix E as printed, as `adai escape` runs and draws it."""

from adai.paper.experiments import Scale
from adai.simulate.settings import SETTINGS
from adai.simulate.study import Study

SETTING = "paper"


def study(scale: Scale) -> Study:
    """The default study of `adai escape`, with ten times the paper's 100 replicas; with twenty at quick scale."""
    setting = SETTINGS[SETTING]
    return Study(
        setting=SETTING,
        rules={name: setting.rules[name] for name in setting.first},
        ks=tuple(sorted(setting.ks)),
        replicas=20 if scale.note else 1000,
        seed=0,
        cap=10**7,
    )
