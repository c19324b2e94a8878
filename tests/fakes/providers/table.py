"""All simulated providers by name, one row each. Messages are worded after their documentation and bug reports, not copied."""

from tests.fakes.providers.hosts import HOSTS
from tests.fakes.providers.makers import MAKERS
from tests.fakes.providers.manners import Manners
from tests.fakes.providers.openai import OPENAI
from tests.fakes.providers.servers import SERVERS

PLAIN: dict[str, Manners] = {
    "plain": Manners(),
    "slow": Manners(quiet_s=7.0),
    "slow-alive": Manners(pulse=": still here", quiet_s=7.0),
}
PROVIDERS = OPENAI | MAKERS | HOSTS | SERVERS | PLAIN
