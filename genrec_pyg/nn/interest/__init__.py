r"""The generated interest of GenRec in closed form: views of the items, their fusion and its
settings found on validation.
"""

from genrec_pyg.nn.interest.config import InterestConfig
from genrec_pyg.nn.interest.generated import GeneratedInterest
from genrec_pyg.nn.interest.held_out import HeldOutLists
from genrec_pyg.nn.interest.schedule import FlipSchedule, KernelPath
from genrec_pyg.nn.interest.search import InterestChoice, choose_interest
from genrec_pyg.nn.interest.user_interests import UserInterests, UserInterestsConfig
from genrec_pyg.nn.interest.weights import best_share, mixture_weights

__all__ = [
    'FlipSchedule',
    'GeneratedInterest',
    'HeldOutLists',
    'InterestChoice',
    'InterestConfig',
    'KernelPath',
    'UserInterests',
    'UserInterestsConfig',
    'best_share',
    'choose_interest',
    'mixture_weights',
]
